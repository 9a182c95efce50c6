// Cholesky's decomposition by panels of columns, and where those do not pay by LAPACK.
//
// LAPACK spends a good part of its time on narrow products and triangular solutions. Here a panel first takes what all
// columns before it contribute, in one product, and is then decomposed by columns so few that almost everything is a
// product. The BLAS is the one inside libtorch; where it gives no names to link with, LAPACK does it all.

#include "cholesky.h"
#include <ATen/Config.h>

#if AT_BUILD_WITH_LAPACK()

#include <ATen/native/BatchLinearAlgebra.h>
#include <algorithm>
#include <cmath>

extern "C" {
#define WEAK __attribute__((weak))
WEAK void sgemm_(const char *, const char *, const int *, const int *, const int *, const float *, const float *,
                 const int *, const float *, const int *, const float *, float *, const int *);
WEAK void dgemm_(const char *, const char *, const int *, const int *, const int *, const double *, const double *,
                 const int *, const double *, const int *, const double *, double *, const int *);
WEAK void strsm_(const char *, const char *, const char *, const char *, const int *, const int *, const float *,
                 const float *, const int *, float *, const int *);
WEAK void dtrsm_(const char *, const char *, const char *, const char *, const int *, const int *, const double *,
                 const double *, const int *, double *, const int *);
#undef WEAK
}

namespace {

// The columns of a panel, and how many of them are decomposed at a time.
constexpr int PANEL = 48;
constexpr int COLUMNS = 16;

// Wider matrices are left to LAPACK, which shares them among threads better.
constexpr int WIDEST = 1152;

template <typename scalar_t> struct Blas;

template <> struct Blas<float> {
  static constexpr auto gemm = sgemm_;
  static constexpr auto trsm = strsm_;
  static bool is_there() { return sgemm_ != nullptr && strsm_ != nullptr; }
};

template <> struct Blas<double> {
  static constexpr auto gemm = dgemm_;
  static constexpr auto trsm = dtrsm_;
  static bool is_there() { return dgemm_ != nullptr && dtrsm_ != nullptr; }
};

template <typename scalar_t> bool decompose_whole(scalar_t *matrix, int width, int stride) {
  int info = 0;
  at::native::lapackCholesky<scalar_t>('L', width, matrix, stride, &info);
  return info == 0;
}

// Takes the contribution of the decomposed columns `first` to `start` from the columns behind them, `count` many.
template <typename scalar_t> void take_off(scalar_t *matrix, int width, int first, int start, int count) {
  if (start == first) {
    return;
  }
  const int rows = width - start, depth = start - first;
  const scalar_t minus = -1, one = 1;
  const scalar_t *left = matrix + start + static_cast<int64_t>(first) * width;
  scalar_t *out = matrix + start + static_cast<int64_t>(start) * width;
  Blas<scalar_t>::gemm("N", "T", &rows, &count, &depth, &minus, left, &width, left, &width, &one, out, &width);
}

template <typename scalar_t> bool decompose_by_panels(scalar_t *matrix, int width) {
  const scalar_t one = 1;
  for (int panel = 0; panel < width; panel += PANEL) {
    const int end = std::min(panel + PANEL, width);
    take_off(matrix, width, 0, panel, end - panel);
    for (int start = panel; start < end; start += COLUMNS) {
      const int count = std::min(COLUMNS, end - start), below = width - start - count;
      take_off(matrix, width, panel, start, count);
      scalar_t *corner = matrix + start + static_cast<int64_t>(start) * width;
      if (!decompose_whole(corner, count, width)) {
        return false;
      }
      if (below > 0) {
        Blas<scalar_t>::trsm("R", "L", "T", "N", &below, &count, &one, corner, &width, corner + count, &width);
      }
    }
  }
  return true;
}

template <typename scalar_t> bool decompose_finite(scalar_t *matrix, int64_t size) {
  const int width = static_cast<int>(size);
  const bool by_panels = width <= WIDEST && Blas<scalar_t>::is_there();
  bool exists = by_panels ? decompose_by_panels(matrix, width) : decompose_whole(matrix, width, width);
  for (int64_t place = 0; place < size && exists; ++place) {
    exists = std::isfinite(matrix[place * (size + 1)]);
  }
  return exists;
}

} // namespace

namespace backpack_run {

bool decompose(float *matrix, int64_t width) { return decompose_finite(matrix, width); }

bool decompose(double *matrix, int64_t width) { return decompose_finite(matrix, width); }

} // namespace backpack_run

#endif
