"""How real synthetic CT is: every figure beside what real scans reach against each other.

Two steps. *Measure*: each volume is read once and gives small summaries (features, histograms, curves), one function
per room: ``measure_...(volume) -> ...``. *Compare*: summaries of real and synthetic volumes give sections of figures,
``compare_...(real, synthetic) -> Section``. Nothing here knows how the volumes were made.
"""
