// Memory of large tensors that is kept from one call to the next, apart from what malloc has.
//
// A pass allocates and frees the same large tensors as the pass before. malloc maps blocks of this size from the system and
// returns them, and each page of a fresh mapping costs a fault and is zeroed; of individual gradients that is most of the
// time. Threads that ask for it therefore take large blocks from an address range of their own, and nobody else's memory is
// changed: reserved once, without memory, on whose pages memory stays after the first use. Blocks lie in it first fit by
// address, and neighbours that are free become one.

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>

#ifdef __linux__
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace {

// Blocks from this size on; glibc maps these one by one unless told otherwise.
constexpr size_t LARGE = size_t{128} << 10;

// Blocks begin at multiples of this. Whole pages would put all tensors at one place of the cache.
constexpr size_t GRAIN = 256;

#ifdef __linux__

class Range {
public:
  // The range of this process; null where the system reserves none. It is never given up, since tensors outlive all else.
  static Range *get() {
    static Range *const range = reserve();
    return range;
  }

  bool owns(const void *data) const {
    const auto *at = static_cast<const char *>(data);
    return at >= base_ && at < base_ + size_;
  }

  // A block, or null where there is no room.
  void *take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    // A grain more, so that blocks of whole pages do not all begin alike.
    const size_t length = (bytes / GRAIN + 2) * GRAIN;
    const auto fits = [length](const auto &hole) { return hole.second >= length; };
    const auto hole = std::find_if(free_.begin(), free_.end(), fits);
    if (hole == free_.end()) {
      return nullptr;
    }
    const auto [offset, room] = *hole;
    // A limit that was set since holds for memory that is new here.
    if (offset + length > touched_ && is_limited()) {
      return nullptr;
    }
    free_.erase(hole);
    if (room > length) {
      free_.emplace(offset + length, room - length);
    }
    taken_.emplace(offset, length);
    high_ = std::max(high_, offset + length);
    touched_ = std::max(touched_, offset + length);
    return base_ + offset;
  }

  void give(void *data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto block = taken_.find(static_cast<size_t>(static_cast<char *>(data) - base_));
    size_t offset = block->first, length = block->second;
    taken_.erase(block);
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + length) {
      length += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == offset) {
        offset = before->first;
        length += before->second;
        free_.erase(before);
      }
    }
    free_.emplace(offset, length);
    if (keepers_ == 0) {
      return_between(offset, offset + length);
    }
  }

  // One more, or one less, that wants memory kept. Without any, what is free goes back to the system.
  void keepers(int more) {
    const std::lock_guard<std::mutex> lock(mutex_);
    keepers_ += more;
    if (keepers_ == 0) {
      give_back();
    }
  }

  // What is free goes back to the system.
  void forget() {
    const std::lock_guard<std::mutex> lock(mutex_);
    give_back();
  }

  // A call has ended: what neither it nor the call before has used goes back to the system.
  void end_call() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t kept = std::max(high_, earlier_);
    if (touched_ > kept) {
      return_between(kept, touched_);
      touched_ = kept;
    }
    earlier_ = high_;
    high_ = top();
  }

private:
  Range(char *base, size_t size) : base_(base), size_(size), free_{{0, size}} {}

  // Whether addresses are limited, which is meant for memory; of that a reservation takes none.
  static bool is_limited() {
    rlimit limit{};
    return getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
  }

  static Range *reserve() {
    if (is_limited()) {
      return nullptr;
    }
    // No larger than the machine's memory: what does not fit is malloc's, which refuses what cannot be had.
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t size = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * page;
    void *const base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
      return nullptr;
    }
    auto *const range = new Range(static_cast<char *>(base), size);
    // A fork in the middle of a change would leave the child a lock that nobody opens.
    pthread_atfork([] { get()->mutex_.lock(); }, [] { get()->mutex_.unlock(); }, [] { get()->mutex_.unlock(); });
    return range;
  }

  // Where the highest block in use ends.
  size_t top() const {
    // The hole at the end, which is only missing where the last block fills the range.
    const auto last = free_.empty() ? free_.end() : std::prev(free_.end());
    return last != free_.end() && last->first + last->second == size_ ? last->first : size_;
  }

  void give_back() {
    return_between(0, touched_);
    high_ = earlier_ = touched_ = top();
  }

  // Gives the memory of what is free from `begin` to `end` back; the addresses stay.
  void return_between(size_t begin, size_t end) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    for (const auto &[offset, length] : free_) {
      const size_t first = (std::max(offset, begin) + page - 1) / page * page;
      const size_t last = std::min(offset + length, end) / page * page;
      if (first < last) {
        madvise(base_ + first, last - first, MADV_DONTNEED);
      }
    }
  }

  char *const base_;
  const size_t size_;
  std::mutex mutex_;
  // Holes and blocks: where they begin and how long they are.
  std::map<size_t, size_t> free_;
  std::unordered_map<size_t, size_t> taken_;
  // Beyond `touched_` no page has memory; `high_` is the end of the highest block of this call, `earlier_` of the one before.
  size_t touched_ = 0, high_ = 0, earlier_ = 0;
  int keepers_ = 0;
};

// Calls that this thread is in.
thread_local int depth = 0;

// Whether all threads are in a call that does not end.
std::atomic<bool> always = false;

// libtorch's own allocator, which serves all others.
c10::Allocator *usual = nullptr;

void free_block(void *data) {
  Range *const range = Range::get();
  if (range->owns(data)) {
    range->give(data);
  } else {
    usual->raw_deallocate(data);
  }
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes >= LARGE && (depth > 0 || always.load(std::memory_order_relaxed))) {
      if (void *const data = Range::get()->take(bytes)) {
        return {data, data, &free_block, c10::Device(c10::DeviceType::CPU)};
      }
    }
    return usual->allocate(bytes);
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return usual->raw_deleter() == nullptr ? nullptr : &free_block;
  }

  void copy_data(void *to, const void *from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};

// Whether the range is there, and libtorch asks for its blocks.
bool installed() {
  static const bool done = [] {
    if (Range::get() == nullptr) {
      return false;
    }
    usual = c10::GetCPUAllocator();
    c10::SetCPUAllocator(new Allocator);
    return true;
  }();
  return done;
}

#endif

} // namespace

extern "C" {

// One more, or one less (-1), that wants memory kept.
void backpack_run_kept_memory_keepers(int more) {
#ifdef __linux__
  if (installed()) {
    Range::get()->keepers(more);
  }
#else
  (void)more;
#endif
}

// From now on large tensors of all threads lie in kept memory.
void backpack_run_kept_memory_always() {
#ifdef __linux__
  if (!always.exchange(true) && installed()) {
    Range::get()->keepers(1);
  }
#endif
}

// What is kept and free goes back to the system.
void backpack_run_kept_memory_forget() {
#ifdef __linux__
  if (installed()) {
    Range::get()->forget();
  }
#endif
}

// This thread enters (1) or leaves (-1) a call whose large tensors lie in kept memory.
void backpack_run_kept_memory_call(int more) {
#ifdef __linux__
  if (installed()) {
    depth += more;
    if (depth == 0) {
      Range::get()->end_call();
    }
  }
#else
  (void)more;
#endif
}
}
