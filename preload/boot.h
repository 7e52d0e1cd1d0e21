// boot.h - from a library that lies still in a process to a live runtime.
// Nothing until it is needed: the constructor only remembers the environment. The first thread that
// the program starts (doors.cc) boots: check that this process can be served, start the workers,
// patch every loaded object, go on. If anything is missing, the program runs natively, all of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace weft::preload {

// Makes the runtime live if this process can be served. Called with one kernel thread in the
// process, from a door; later calls cost a load and a compare.
void boot();

// The program's environment as the loader gave it.
const char* const* initial_environment();

}  // namespace weft::preload
