// How an error crosses from C++ into Rust: no exception may.

#pragma once

#include <c10/core/GradMode.h>
#include <cstring>
#include <exception>

namespace backpack_run {

// Runs `work`. Gives 0, or -1 after writing what went wrong into `message` (at most `capacity` bytes, zero-terminated).
template <typename Work> int caught(char *message, size_t capacity, Work work) {
  try {
    work();
    return 0;
  } catch (const std::exception &error) {
    std::strncpy(message, error.what(), capacity - 1);
    message[capacity - 1] = '\0';
    return -1;
  }
}

// The same without gradients.
template <typename Work> int guarded(char *message, size_t capacity, Work work) {
  return caught(message, capacity, [&] {
    c10::NoGradGuard no_grad;
    work();
  });
}

} // namespace backpack_run
