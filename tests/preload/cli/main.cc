// main.cc - the test program of the command's parts; Catch2 brings main().
// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
