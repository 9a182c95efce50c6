// Sums of the squared entries of matrix products whose left factor is mostly zero, with C linkage.
//
// libtorch has dense products alone. Behind a max-pooling most entries of a vector are zero, at the same places for all
// vectors of a sample, so that leaving them out saves more than a library's tuned product gains.

#include "each_processor.h"
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// What a register holds, and how many of them make a block of features: few enough that the sums of two vectors stay in
// registers.
template <typename T> using Register __attribute__((vector_size(32))) = T;
// The same in memory, at any address.
template <typename T> using Loose __attribute__((vector_size(32), aligned(alignof(T)), may_alias)) = T;
constexpr int REGISTERS = 4;
template <typename T> constexpr int64_t BLOCK = REGISTERS * 32 / sizeof(T);

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
BACKPACK_RUN_INLINE void add_squares(const T *__restrict rows, const int32_t *__restrict places,
                                                       const T *__restrict values, int64_t count, int64_t vectors,
                                                       const T *__restrict signs, T *__restrict squares) {
  Register<T> sums[G][REGISTERS] = {};
  for (int64_t k = 0; k < count; ++k) {
    const auto *row = reinterpret_cast<const Loose<T> *>(rows + int64_t(places[k]) * BLOCK<T>);
#pragma GCC unroll 2
    for (int g = 0; g < G; ++g)
#pragma GCC unroll 4
      for (int part = 0; part < REGISTERS; ++part) sums[g][part] += row[part] * values[k * vectors + g];
  }
  auto *total = reinterpret_cast<Loose<T> *>(squares);
#pragma GCC unroll 2
  for (int g = 0; g < G; ++g)
#pragma GCC unroll 4
    for (int part = 0; part < REGISTERS; ++part) total[part] += sums[g][part] * sums[g][part] * signs[g];
}

// The entries of a sample's vectors at places where any of them is not zero, output by output.
template <typename T> struct Gathered {
  const int64_t outputs, positions, vectors;
  // Output o has the entries starts[o] to starts[o + 1]: their positions, and the values of all vectors there.
  std::vector<int64_t> starts;
  std::vector<int32_t> places;
  std::vector<T> values;
  std::vector<uint8_t> used;
  std::vector<int64_t> next;

  explicit Gathered(const Sizes &size)
      : outputs(size.last - size.first), positions(size.positions), vectors(size.vectors), starts(outputs + 1),
        places(outputs * positions), values(outputs * positions * vectors), used(positions * outputs), next(outputs) {}

  BACKPACK_RUN_INLINE void mark(const T *__restrict from, uint8_t *__restrict to, int64_t stride) {
    if (stride == 1)
      for (int64_t output = 0; output < outputs; ++output) to[output] |= from[output] != T(0);
    else
      for (int64_t output = 0; output < outputs; ++output) to[output] |= from[output * stride] != T(0);
  }

  BACKPACK_RUN_INLINE void gather(const T *v, const Strides &stride) {
    std::fill(used.begin(), used.end(), 0);
    for (int64_t vector = 0; vector < vectors; ++vector)
      for (int64_t position = 0; position < positions; ++position)
        mark(v + vector * stride.vector + position * stride.position, used.data() + position * outputs, stride.output);
    std::fill(starts.begin(), starts.end(), 0);
    for (int64_t position = 0; position < positions; ++position)
      for (int64_t output = 0; output < outputs; ++output) starts[output + 1] += used[position * outputs + output];
    for (int64_t output = 0; output < outputs; ++output) starts[output + 1] += starts[output];
    std::copy(starts.begin(), starts.end() - 1, next.begin());
    for (int64_t position = 0; position < positions; ++position)
      for (int64_t output = 0; output < outputs; ++output) {
        if (!used[position * outputs + output]) continue;
        const T *from = v + output * stride.output + position * stride.position;
        T *to = values.data() + next[output] * vectors;
        places[next[output]++] = int32_t(position);
        for (int64_t vector = 0; vector < vectors; ++vector) to[vector] = from[vector * stride.vector];
      }
  }

  // Adds the squares of an output for one block of features.
  BACKPACK_RUN_INLINE void add(int64_t output, const T *rows, const T *signs, T *squares) const {
    const int64_t start = starts[output], count = starts[output + 1] - start;
    if (count == 0) return;
    const int32_t *at = places.data() + start;
    const T *own = values.data() + start * vectors;
    int64_t vector = 0;
    for (; vector + 2 <= vectors; vector += 2)
      add_squares<T, 2>(rows, at, own + vector, count, vectors, signs + vector, squares);
    if (vector < vectors) add_squares<T, 1>(rows, at, own + vector, count, vectors, signs + vector, squares);
  }
};

// A sample's inputs [positions][features], block by block of features: [blocks][positions][BLOCK].
template <typename T> BACKPACK_RUN_INLINE void pack(const T *x, const Sizes &size, int64_t blocks, T *packed) {
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t start = block * BLOCK<T>, width = std::min(BLOCK<T>, size.features - start);
    for (int64_t position = 0; position < size.positions; ++position)
      std::memcpy(packed + (block * size.positions + position) * BLOCK<T>, x + position * size.features + start,
                  width * sizeof(T));
  }
}

template <typename T>
BACKPACK_RUN_INLINE void squares_sum(const T *x, const T *v, const T *signs, Strides stride, Sizes size, T *out) {
  const int64_t outputs = size.last - size.first;
  const int64_t blocks = (size.features + BLOCK<T> - 1) / BLOCK<T>, padded = blocks * BLOCK<T>;
  std::vector<T> packed(size.positions * padded, T(0)), squares(outputs * padded, T(0)), of_sample(size.vectors);
  Gathered<T> gathered(size);
  for (int64_t sample = 0; sample < size.samples; ++sample) {
    gathered.gather(v + sample * stride.sample + size.first * stride.output, stride);
    pack(x + sample * size.positions * size.features, size, blocks, packed.data());
    for (int64_t vector = 0; vector < size.vectors; ++vector)
      of_sample[vector] = signs ? signs[vector * size.samples + sample] : T(1);
    // A block of the inputs stays in the first-level cache for all outputs.
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t output = 0; output < outputs; ++output)
        gathered.add(output, packed.data() + block * size.positions * BLOCK<T>, of_sample.data(),
                     squares.data() + output * padded + block * BLOCK<T>);
  }
  for (int64_t output = 0; output < outputs; ++output)
    std::memcpy(out + (size.first + output) * size.features, squares.data() + output * padded,
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
