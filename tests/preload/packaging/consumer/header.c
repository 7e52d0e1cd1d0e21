// header.c - that the header is one for C as well: included twice, in a strict translation unit.
// SPDX-License-Identifier: Apache-2.0
#include <weft/weft.h>
#include <weft/weft.h>

const int version = WEFT_VERSION_NUMBER;
