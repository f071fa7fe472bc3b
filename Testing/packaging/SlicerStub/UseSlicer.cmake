# slicerMacroBuildScriptedModule and slicer_add_python_unittest, as far as files, folders and tests go.

if(NOT DEFINED EXTENSION_NAME)
  set(EXTENSION_NAME "${PROJECT_NAME}")
endif()
include(CTest)
find_program(STUB_PYTHON NAMES python3 python REQUIRED)

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(_module "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(_module_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule does not know '${_module_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT _module_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule needs NAME")
  endif()

  # WITH_SUBDIR: a package named like the source folder; else the files lie among the modules.
  set(_modules_folder "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  if(_module_WITH_SUBDIR)
    get_filename_component(_source_folder "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    set(_target_folder "${_modules_folder}/${_source_folder}")
    set(_installed "${_target_folder}") # the folder itself
  else()
    set(_target_folder "${_modules_folder}")
    set(_installed "${_target_folder}/") # what is in the folder
  endif()

  # Each file keeps its path relative to the source folder. A script may be named without its suffix.
  set(_copies)
  set(_compile)
  foreach(_kind SCRIPTS RESOURCES)
    foreach(_file IN LISTS _module_${_kind})
      if(_kind STREQUAL "SCRIPTS" AND NOT _file MATCHES "\\.py$")
        string(APPEND _file ".py")
      endif()
      if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${_file}")
        message(FATAL_ERROR "${_module_NAME}, ${_kind}: there is no file '${_file}'")
      endif()
      add_custom_command(
        OUTPUT "${_target_folder}/${_file}"
        COMMAND "${CMAKE_COMMAND}" -E copy "${CMAKE_CURRENT_SOURCE_DIR}/${_file}" "${_target_folder}/${_file}"
        DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${_file}"
        )
      list(APPEND _copies "${_target_folder}/${_file}")
      if(_kind STREQUAL "SCRIPTS")
        list(APPEND _compile "${_target_folder}/${_file}")
      endif()
    endforeach()
  endforeach()
  add_custom_target(Copy${_module_NAME}Files ALL DEPENDS ${_copies})
  add_custom_target(Compile${_module_NAME}PythonFiles ALL
    COMMAND "${STUB_PYTHON}" -m compileall -q -b ${_compile}
    DEPENDS ${_copies}
    )
  add_dependencies(Compile${_module_NAME}PythonFiles Copy${_module_NAME}Files)
  install(DIRECTORY "${_installed}" DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}" USE_SOURCE_PERMISSIONS)

  if(BUILD_TESTING AND _module_WITH_GENERIC_TESTS)
    file(APPEND "${CMAKE_BINARY_DIR}/python_tests.txt" "py_nomainwindow_qSlicer${_module_NAME}ModuleGenericTest\n")
  endif()
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(_test "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  # Slicer runs the test by the script's bare name, from the folder that calls the macro.
  if(_test_SCRIPT MATCHES "/" OR NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${_test_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: '${_test_SCRIPT}' is no script of this folder")
  endif()
  get_filename_component(_test_name "${_test_SCRIPT}" NAME_WE)
  file(APPEND "${CMAKE_BINARY_DIR}/python_tests.txt" "py_${_test_TESTNAME_PREFIX}${_test_name}\n")
endmacro()
