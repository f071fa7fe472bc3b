"""The slab denoiser: the network, what it is told about a slab, and the intensities it works in."""
