// user_dispatch.h - Syscall User Dispatch (Linux 5.11): the audit of what the patcher missed, and the
// way to serve code that cannot be patched.
// Every `syscall` outside the runtime's own text raises SIGSYS on a worker's kernel thread. The
// handler makes the interrupted context enter the gate as if a patched site had: with a Site made
// for that address. 2.2 us a call, so not the default.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft {
class Worker;
}

namespace weft::preload {

// Whether the kernel lets the calling thread use it (Linux 5.11; a sysctl of later ones denies it).
bool user_dispatch_works();
// Before the first kernel thread starts. audit: name each address that is not a known site.
// vdso: where the kernel's own object lies, or 0; its calls are served but not named.
void prepare_user_dispatch(bool audit, uintptr_t vdso);
// For the calling kernel thread; its worker's `intercepting` byte is the selector.
void start_user_dispatch(Worker& worker);

}  // namespace weft::preload
