// bound.h - the bound mode: a fiber that owns a kernel thread, for state that cannot be virtual.
// Its calls go to the kernel on that thread, where unshare, setns, a real-time policy or a seccomp
// filter belong; it still parks in the futex table, so other fibers wake it as ever.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace weft {

// Moves the running fiber to a kernel thread of its own, for good. If none can be had it stays:
// the call that asked for it then acts on the worker, as it would without this mode.
void bind_current_fiber();

// The end of a bound fiber's kernel thread, on that worker's own stack: gives its ring back, whose
// memory counts against RLIMIT_MEMLOCK. The worker's record stays, a late wake may still find it.
[[noreturn]] void end_bound_worker();

}  // namespace weft
