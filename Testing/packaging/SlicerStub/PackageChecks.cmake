# What Slicer's packaging demands of an extension before it makes a package.

foreach(file_variable EXTENSION_README_FILE EXTENSION_LICENSE_FILE)
  if(NOT EXISTS "${${file_variable}}")
    message(FATAL_ERROR "${file_variable} names a file that is not there: '${${file_variable}}'")
  endif()
endforeach()

foreach(name CATEGORY CONTRIBUTORS DEPENDS DESCRIPTION HOMEPAGE ICONURL SCREENSHOTURLS)
  list(LENGTH EXTENSION_${name} _words)
  if(NOT _words EQUAL 1)
    message(FATAL_ERROR "EXTENSION_${name} must be one quoted string, it is: '${EXTENSION_${name}}'")
  endif()
endforeach()

if(NOT "${EXTENSION_NAME}" STREQUAL "${PROJECT_NAME}")
  message(FATAL_ERROR "The extension is called '${EXTENSION_NAME}', the project '${PROJECT_NAME}'")
endif()
