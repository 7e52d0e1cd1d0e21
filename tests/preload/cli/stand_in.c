// stand_in.c - an empty library in the place of libweft.so: the command is tested on its own, and
// a server under it behaves as natively.
// SPDX-License-Identifier: Apache-2.0
int weft_stand_in = 1;
