// Tensors as DLPack hands them from one library to another in a process: the memory is shared, and lives as long as either
// side holds it.

#include <ATen/DLConvertor.h>
#include <cstring>
#include <exception>

namespace {

// Gives what `work` gives, or null after writing what went wrong into `message` (at most `capacity` bytes,
// zero-terminated): no exception may cross into Rust.
template <typename Work> auto guarded(char *message, size_t capacity, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::exception &error) {
    std::strncpy(message, error.what(), capacity - 1);
    message[capacity - 1] = '\0';
    return nullptr;
  }
}

} // namespace

extern "C" {

// A tensor in the memory of a DLPack tensor, which it owns from here on.
at::Tensor *backpack_run_from_dlpack(DLManagedTensor *managed, char *message, size_t capacity) {
  return guarded(message, capacity, [&] { return new at::Tensor(at::fromDLPack(managed)); });
}

// A DLPack tensor in the memory of a tensor; whoever takes it calls its deleter.
DLManagedTensor *backpack_run_to_dlpack(const at::Tensor *tensor, char *message, size_t capacity) {
  return guarded(message, capacity, [&] { return at::toDLPack(*tensor); });
}

// Ends a DLPack tensor that nobody has taken.
void backpack_run_drop_dlpack(DLManagedTensor *managed) {
  if (managed->deleter != nullptr) {
    managed->deleter(managed);
  }
}
}
