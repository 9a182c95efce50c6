// Sums of the squared entries of matrix products whose left factor is mostly zero, with C linkage.
//
// libtorch has dense products alone. Behind a max-pooling most entries of a vector are zero, at the same places for all
// vectors of a sample, so that leaving them out saves more than a library's tuned product gains.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

// One build serves all processors: the loader takes the version with the widest vectors that the processor has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define BACKPACK_RUN_FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BACKPACK_RUN_FOR_EACH_PROCESSOR
#endif

namespace {

// What a register holds, and how many of them make a block of features: few enough that the sums of two vectors stay in
// registers.
template <typename T> using Register __attribute__((vector_size(32))) = T;
// The same in memory, at any address.
template <typename T> using Loose __attribute__((vector_size(32), aligned(alignof(T)), may_alias)) = T;
constexpr int kRegisters = 4;
template <typename T> constexpr int64_t kBlock = kRegisters * 32 / sizeof(T);

// The vectors, v[vector][sample][output][position], by their strides.
struct Strides {
  int64_t vector, sample, output, position;
};

struct Sizes {
  int64_t vectors, samples, positions, features;
  // The outputs that are worked on.
  int64_t first, last;
};

// squares[f] += sum over G vectors of sign * (sum_k values[k][vector] * rows[places[k]][f])^2.
template <typename T, int G>
inline __attribute__((always_inline)) void add_squares(const T *__restrict rows, const int32_t *__restrict places,
                                                       const T *__restrict values, int64_t count, int64_t vectors,
                                                       const T *__restrict signs, T *__restrict squares) {
  Register<T> sums[G][kRegisters] = {};
  for (int64_t k = 0; k < count; ++k) {
    const auto *row = reinterpret_cast<const Loose<T> *>(rows + int64_t(places[k]) * kBlock<T>);
#pragma GCC unroll 2
    for (int g = 0; g < G; ++g)
#pragma GCC unroll 4
      for (int part = 0; part < kRegisters; ++part) sums[g][part] += row[part] * values[k * vectors + g];
  }
  auto *total = reinterpret_cast<Loose<T> *>(squares);
#pragma GCC unroll 2
  for (int g = 0; g < G; ++g)
#pragma GCC unroll 4
    for (int part = 0; part < kRegisters; ++part) total[part] += sums[g][part] * sums[g][part] * signs[g];
}

template <typename T>
inline __attribute__((always_inline)) void squares_sum(const T *x, const T *v, const T *signs, Strides stride,
                                                       Sizes size, T *out) {
  constexpr int64_t W = kBlock<T>;
  const int64_t outputs = size.last - size.first;
  const int64_t blocks = (size.features + W - 1) / W;
  std::vector<T> packed(blocks * size.positions * W, T(0));
  std::vector<T> squares(outputs * blocks * W, T(0));
  std::vector<uint8_t> used(size.positions * outputs);
  std::vector<int32_t> places(outputs * size.positions);
  std::vector<int64_t> starts(outputs + 1), next(outputs);
  std::vector<T> values(outputs * size.positions * size.vectors), of_sample(size.vectors);

  for (int64_t sample = 0; sample < size.samples; ++sample) {
    const T *of_v = v + sample * stride.sample + size.first * stride.output;
    // Where any vector is not zero.
    std::memset(used.data(), 0, used.size());
    for (int64_t vector = 0; vector < size.vectors; ++vector)
      for (int64_t position = 0; position < size.positions; ++position) {
        const T *__restrict from = of_v + vector * stride.vector + position * stride.position;
        uint8_t *__restrict to = used.data() + position * outputs;
        if (stride.output == 1)
          for (int64_t output = 0; output < outputs; ++output) to[output] |= from[output] != T(0);
        else
          for (int64_t output = 0; output < outputs; ++output) to[output] |= from[output * stride.output] != T(0);
      }
    std::fill(starts.begin(), starts.end(), 0);
    for (int64_t position = 0; position < size.positions; ++position)
      for (int64_t output = 0; output < outputs; ++output) starts[output + 1] += used[position * outputs + output];
    for (int64_t output = 0; output < outputs; ++output) starts[output + 1] += starts[output];
    std::copy(starts.begin(), starts.end() - 1, next.begin());
    for (int64_t position = 0; position < size.positions; ++position)
      for (int64_t output = 0; output < outputs; ++output)
        if (used[position * outputs + output]) {
          const T *from = of_v + output * stride.output + position * stride.position;
          T *to = values.data() + next[output] * size.vectors;
          places[next[output]++] = int32_t(position);
          for (int64_t vector = 0; vector < size.vectors; ++vector) to[vector] = from[vector * stride.vector];
        }
    // The sample's inputs, block by block of features.
    const T *of_x = x + sample * size.positions * size.features;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t width = std::min(W, size.features - block * W);
      for (int64_t position = 0; position < size.positions; ++position)
        std::memcpy(packed.data() + (block * size.positions + position) * W,
                    of_x + position * size.features + block * W, width * sizeof(T));
    }
    for (int64_t vector = 0; vector < size.vectors; ++vector)
      of_sample[vector] = signs ? signs[vector * size.samples + sample] : T(1);
    for (int64_t block = 0; block < blocks; ++block) {
      const T *rows = packed.data() + block * size.positions * W;
      for (int64_t output = 0; output < outputs; ++output) {
        const int64_t start = starts[output], count = starts[output + 1] - start;
        if (count == 0) continue;
        const T *own = values.data() + start * size.vectors;
        T *to = squares.data() + (output * blocks + block) * W;
        int64_t vector = 0;
        for (; vector + 2 <= size.vectors; vector += 2)
          add_squares<T, 2>(rows, places.data() + start, own + vector, count, size.vectors, of_sample.data() + vector, to);
        if (vector < size.vectors)
          add_squares<T, 1>(rows, places.data() + start, own + vector, count, size.vectors, of_sample.data() + vector, to);
      }
    }
  }
  for (int64_t output = 0; output < outputs; ++output)
    std::memcpy(out + (size.first + output) * size.features, squares.data() + output * blocks * W,
                size.features * sizeof(T));
}

} // namespace

extern "C" {

// out[o][f] = sum over vectors and samples of sign * (sum over positions of v * x)^2 for the outputs first..last, with
// x [samples][positions][features] and out [outputs][features] contiguous, signs [vectors][samples] or null.
BACKPACK_RUN_FOR_EACH_PROCESSOR
void backpack_run_sparse_squares_float(const float *x, const float *v, const float *signs, const int64_t *strides,
                                       const int64_t *sizes, float *out) {
  squares_sum(x, v, signs, {strides[0], strides[1], strides[2], strides[3]},
              {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]}, out);
}

BACKPACK_RUN_FOR_EACH_PROCESSOR
void backpack_run_sparse_squares_double(const double *x, const double *v, const double *signs, const int64_t *strides,
                                        const int64_t *sizes, double *out) {
  squares_sum(x, v, signs, {strides[0], strides[1], strides[2], strides[3]},
              {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]}, out);
}

} // extern "C"
