// futex_pi.h - priority-inheriting futexes, for fibers of this process.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syscalls/call_frame.h"

namespace weft {

// FUTEX_LOCK_PI, LOCK_PI2, TRYLOCK_PI and UNLOCK_PI. The word's protocol (owner's id, FUTEX_WAITERS,
// FUTEX_OWNER_DIED) is the kernel's; priorities are not inherited: fibers have none.
Result futex_pi(const CallFrame& frame, uint32_t command);

}  // namespace weft
