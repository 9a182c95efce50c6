// Symmetric matrices by one triangle, with C linkage: the operations for which libtorch would work on both.
//
// The triangle is the upper one in the order of rows. LAPACK, which goes by columns, takes it for the lower one, and
// decomposes that faster. Every function returns as `guarded` does.

#include "cholesky.h"
#include "guarded.h"
#include "product.h"
#include <ATen/ATen.h>
#include <ATen/Config.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <algorithm>
#include <cstring>

using backpack_run::guarded;

namespace {

// The side of the squares in which a matrix is mirrored: two of them fit the first-level cache.
constexpr int64_t TILE = 16;

bool is_plain(const at::Tensor &matrix) {
  return matrix.is_cpu() && matrix.is_contiguous() &&
         (matrix.scalar_type() == at::kFloat || matrix.scalar_type() == at::kDouble);
}

// Four numbers side by side, which the compiler keeps in the registers that the processor has.
template <typename scalar_t> struct Four {
  typedef scalar_t Row __attribute__((vector_size(4 * sizeof(scalar_t))));

  static Row low(Row one, Row two) { return Row{one[0], two[0], one[1], two[1]}; }
  static Row high(Row one, Row two) { return Row{one[2], two[2], one[3], two[3]}; }
};

// Writes the square of four at `from` transposed to `to`, both with rows `width` apart: the even rows interleaved, and
// the odd ones, then these with each other.
template <typename scalar_t> void transpose_four(const scalar_t *from, scalar_t *to, int64_t width) {
  using Fours = Four<scalar_t>;
  using Row = typename Fours::Row;
  Row in[4];
  for (int64_t i = 0; i < 4; ++i) {
    std::memcpy(&in[i], from + i * width, sizeof(Row));
  }
  const Row even[2] = {Fours::low(in[0], in[2]), Fours::high(in[0], in[2])};
  const Row odd[2] = {Fours::low(in[1], in[3]), Fours::high(in[1], in[3])};
  const Row out[4] = {Fours::low(even[0], odd[0]), Fours::high(even[0], odd[0]), Fours::low(even[1], odd[1]),
                      Fours::high(even[1], odd[1])};
  for (int64_t i = 0; i < 4; ++i) {
    std::memcpy(to + i * width, &out[i], sizeof(Row));
  }
}

// Mirrors the square whose part below the diagonal starts at this row and column.
template <typename scalar_t> void mirror_tile(scalar_t *matrix, int64_t width, int64_t row, int64_t column) {
  if (column < row && row + TILE <= width) {
    for (int64_t i = row; i < row + TILE; i += 4) {
      for (int64_t j = column; j < column + TILE; j += 4) {
        transpose_four(matrix + j * width + i, matrix + i * width + j, width);
      }
    }
    return;
  }
  for (int64_t i = row; i < std::min(row + TILE, width); ++i) {
    for (int64_t j = column; j < std::min(column + TILE, i); ++j) {
      matrix[i * width + j] = matrix[j * width + i];
    }
  }
}

template <typename scalar_t> void mirror(scalar_t *matrix, int64_t width) {
  at::parallel_for(0, (width + TILE - 1) / TILE, 1, [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t column = 0; column <= row; ++column) {
        mirror_tile(matrix, width, row * TILE, column * TILE);
      }
    }
  });
}

} // namespace

extern "C" {

// The upper triangle of sum [d, d] becomes beta * sum + alpha * x^T x for rows x [M, d], in `bands` products: a band of
// rows from the diagonal on. Below the diagonal a band writes what it computes beside it, and leaves the rest alone.
int backpack_run_add_second_moment(at::Tensor *sum, const at::Tensor *x, double beta, double alpha, int64_t bands,
                                   char *message, size_t capacity) {
  return guarded(message, capacity, [&] {
    const int64_t width = x->size(1);
    const auto add_band = [&](int64_t band) {
      const int64_t start = band * width / bands, end = (band + 1) * width / bands;
      const at::Tensor out = sum->narrow(0, start, end - start).narrow(1, start, width - start);
      const at::Tensor own = x->narrow(1, start, end - start).t();
      backpack_run::matmul_into(out, own, x->narrow(1, start, width - start), beta, alpha);
    };
    // A long band and a short one together are as long as any other two. Threads with bands of their own are faster
    // than threads that share a band, as far as there are bands enough.
    const int64_t pairs = (bands + 1) / 2;
    const auto add_pairs = [&](int64_t first, int64_t last) {
      c10::NoGradGuard no_grad;
      for (int64_t pair = first; pair < last; ++pair) {
        add_band(pair);
        if (bands - 1 - pair != pair) {
          add_band(bands - 1 - pair);
        }
      }
    };
    if (sum->is_cpu() && at::get_num_threads() <= pairs) {
      at::parallel_for(0, pairs, 1, add_pairs);
    } else {
      add_pairs(0, pairs);
    }
  });
}

// Copies the upper triangle of [.., d, d] onto the lower one, in place.
int backpack_run_mirror(at::Tensor *matrix, char *message, size_t capacity) {
  return guarded(message, capacity, [&] {
    if (!is_plain(*matrix)) {
      matrix->copy_(matrix->triu() + matrix->triu(1).mT());
      return;
    }
    const int64_t width = matrix->size(-1), size = width * width;
    AT_DISPATCH_FLOATING_TYPES(matrix->scalar_type(), "mirror", [&] {
      for (int64_t start = 0; start < matrix->numel(); start += size) {
        mirror(matrix->data_ptr<scalar_t>() + start, width);
      }
    });
  });
}

// Cholesky's decomposition R^T R of [.., d, d], of which the upper triangle is read, in place: R in the upper triangle,
// and below the diagonal nothing of use. Says whether it exists and is finite.
int backpack_run_cholesky(at::Tensor *matrix, int *exists, char *message, size_t capacity) {
  return guarded(message, capacity, [&] {
    *exists = 1;
#if AT_BUILD_WITH_LAPACK()
    if (is_plain(*matrix)) {
      const int64_t width = matrix->size(-1), size = width * width;
      AT_DISPATCH_FLOATING_TYPES(matrix->scalar_type(), "cholesky", [&] {
        for (int64_t start = 0; start < matrix->numel() && *exists; start += size) {
          *exists = backpack_run::decompose(matrix->data_ptr<scalar_t>() + start, width);
        }
      });
      return;
    }
#endif
    auto [lower, info] = at::linalg_cholesky_ex(matrix->mT());
    const bool finite = lower.diagonal(0, -2, -1).isfinite().all().item<bool>();
    *exists = finite && info.abs().max().item<int64_t>() == 0;
    matrix->copy_(lower.mT());
  });
}

} // extern "C"
