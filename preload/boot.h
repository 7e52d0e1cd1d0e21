// boot.h - from a library that lies still in a process to a live runtime.
// Nothing until it is needed: the constructor only reads the environment. The first thread that the
// program starts (doors.cc) boots: check that this process can be served, start the workers, patch
// every loaded object, go on. If anything is missing, the program runs natively, all of it, and one
// line on standard error says why: in the first process that meets it, not in each of its children.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace weft::preload {

// Makes the runtime live if this process can be served. Called with one kernel thread in the
// process, from a door; later calls cost two loads and two compares.
void boot();

}  // namespace weft::preload
