// Matrix products, with C linkage.
//
// libtorch takes MKL for products of single precision, which keeps to registers of 256 bits on processors other than
// Intel's. Where these have AVX-512, oneDNN, which libtorch has for convolutions, makes the same products of single
// precision two times as fast and more. Which library it is follows from the processor, the shapes and the type alone.

#include "product.h"
#include "guarded.h"
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

using backpack_run::caught;
using backpack_run::guarded;

#if defined(__x86_64__)
namespace at::native {
__attribute__((weak)) void mkldnn_matmul(const Tensor &, const Tensor &, const Tensor &, float, float);
} // namespace at::native
#endif

namespace {

// A call of oneDNN's takes some ten microseconds beside the product; below this many multiplications MKL is faster.
constexpr int64_t LEAST_MULTIPLICATIONS = 1 << 21;

// out = beta * out + alpha * a b by oneDNN, which compiles a kernel for each beta and alpha that it has not met.
void multiply(const at::Tensor &out, const at::Tensor &a, const at::Tensor &b, double beta, double alpha) {
#if defined(__x86_64__)
  at::native::mkldnn_matmul(a, b, out, static_cast<float>(beta), static_cast<float>(alpha));
#endif
}

// Whether the processor has AVX-512 that MKL leaves unused, and oneDNN is there and uses it.
bool is_gained() {
#if defined(__x86_64__)
  static const bool is_gained = [] {
    if (__builtin_cpu_is("intel") || !__builtin_cpu_supports("avx512bw") || at::native::mkldnn_matmul == nullptr) {
      return false;
    }
    try {
      const at::Tensor matrix = at::ones({16, 16});
      const at::Tensor out = at::empty({16, 16});
      multiply(out, matrix, matrix, 0.0, 1.0);
      return out.eq(16).all().item<bool>();
    } catch (const std::exception &) {
      return false;
    }
  }();
  return is_gained && at::globalContext().userEnabledMkldnn();
#else
  return false;
#endif
}

bool is_taken(const at::Tensor &tensor) {
  return tensor.scalar_type() == at::kFloat && tensor.is_cpu() && tensor.layout() == at::kStrided && !tensor.is_neg() &&
         !(at::GradMode::is_enabled() && tensor.requires_grad());
}

bool is_worth_it(int64_t matrices, int64_t rows, int64_t inner, int64_t columns) {
  // Counted in doubles: the product of four sizes may be beyond what an integer holds.
  const double count = static_cast<double>(matrices) * rows * inner * columns;
  return count >= LEAST_MULTIPLICATIONS;
}

// Matrices whose rows or columns are contiguous and do not overlap, copied where they are not.
at::Tensor plain(const at::Tensor &x) {
  const int64_t rows = x.size(-2), columns = x.size(-1), down = x.stride(-2), along = x.stride(-1);
  const bool by_rows = along == 1 && down >= columns, by_columns = down == 1 && along >= rows;
  const bool is_batch = x.dim() < 3 || x.size(0) == 1 || x.stride(0) > 0;
  return (by_rows || by_columns) && is_batch ? x : x.contiguous();
}

// out = beta * out + alpha * a b for factors that may be others at each call, as a running average's are: oneDNN would
// take longer to compile a kernel for them than to use it.
void multiply_with_any(const at::Tensor &out, const at::Tensor &a, const at::Tensor &b, double beta, double alpha) {
  const bool a_is_smaller = a.numel() <= b.numel();
  const at::Tensor left = alpha != 1.0 && a_is_smaller ? at::mul(a, alpha) : a;
  const at::Tensor right = alpha != 1.0 && !a_is_smaller ? at::mul(b, alpha) : b;
  if (beta != 0.0 && beta != 1.0) {
    at::Tensor target = out;
    target.mul_(beta);
  }
  multiply(out, plain(left), plain(right), beta == 0.0 ? 0.0 : 1.0, 1.0);
}

// out = alpha * a b for [*, m, k] and [*, k, n] with the same leading axes.
void multiply_each(const at::Tensor &out, const at::Tensor &a, const at::Tensor &b, double alpha) {
  const auto matrices = [](const at::Tensor &x) { return x.dim() == 3 ? x : x.flatten(0, -3); };
  multiply(matrices(out), plain(matrices(a)), plain(matrices(b)), 0.0, alpha);
}

// alpha * a b for [*, m, k] and [k, n].
at::Tensor multiply_rows(const at::Tensor &a, const at::Tensor &b, double alpha) {
  auto shape = a.sizes().vec();
  shape.back() = b.size(-1);
  const at::Tensor out = at::empty(shape, a.options());
  multiply(out.view({-1, b.size(-1)}), plain(a.reshape({-1, a.size(-1)})), plain(b), 0.0, alpha);
  return out;
}

at::Tensor plain_matmul(const at::Tensor &a, const at::Tensor &b, double alpha) {
  const at::Tensor product = at::matmul(a, b);
  return alpha == 1.0 ? product : at::mul(product, alpha);
}

} // namespace

namespace backpack_run {

at::Tensor matmul(const at::Tensor &a, const at::Tensor &b, double alpha) {
  const bool are_matrices = a.dim() >= 2 && b.dim() >= 2 && a.numel() > 0 && b.numel() > 0 && a.size(-1) == b.size(-2);
  if (!are_matrices || !is_taken(a) || !is_taken(b) || !is_gained()) {
    return plain_matmul(a, b, alpha);
  }
  const int64_t rows = a.size(-2), inner = a.size(-1), columns = b.size(-1);
  const int64_t of_a = a.numel() / (rows * inner), of_b = b.numel() / (inner * columns);
  if (b.dim() == 2) {
    const bool is_large = is_worth_it(of_a, rows, inner, columns);
    return is_large ? multiply_rows(a, b, alpha) : plain_matmul(a, b, alpha);
  }
  const auto leading = [](const at::Tensor &x) { return x.sizes().slice(0, x.dim() - 2); };
  const auto is_in_front = [&](const at::Tensor &one, const at::Tensor &other) {
    return one.dim() == other.dim() + 1 && one.sizes().slice(1, one.dim() - 3) == leading(other);
  };
  const bool are_alike = leading(a) == leading(b), a_has = is_in_front(a, b), b_has = is_in_front(b, a);
  if (!(are_alike || a_has || b_has) || !is_worth_it(std::min(of_a, of_b), rows, inner, columns)) {
    return plain_matmul(a, b, alpha);
  }
  auto shape = (b_has ? b : a).sizes().vec();
  shape[shape.size() - 2] = rows;
  shape.back() = columns;
  const at::Tensor out = at::empty(shape, a.options());
  if (are_alike) {
    multiply_each(out, a, b, alpha);
    return out;
  }
  // Vectors in front of one of them: one vector at a time, so that the other is not copied for each.
  for (int64_t vector = 0; vector < shape[0]; ++vector) {
    multiply_each(out.select(0, vector), a_has ? a.select(0, vector) : a, b_has ? b.select(0, vector) : b, alpha);
  }
  return out;
}

void matmul_into(const at::Tensor &out, const at::Tensor &a, const at::Tensor &b, double beta, double alpha) {
  const bool is_batch = a.dim() == 3;
  const bool is_sound = out.dim() == a.dim() && b.dim() == a.dim() && out.numel() > 0 && a.numel() > 0 &&
                        out.size(-2) == a.size(-2) && a.size(-1) == b.size(-2) && out.size(-1) == b.size(-1) &&
                        (!is_batch || (out.size(0) == a.size(0) && a.size(0) == b.size(0)));
  const int64_t matrices = is_batch ? a.size(0) : 1;
  if (is_sound && is_taken(out) && is_taken(a) && is_taken(b) && out.stride(-1) == 1 &&
      is_worth_it(matrices, a.size(-2), a.size(-1), b.size(-1)) && is_gained()) {
    multiply_with_any(out, a, b, beta, alpha);
    return;
  }
  at::Tensor target = out;
  if (is_batch) {
    at::baddbmm_out(target, out, a, b, beta, alpha);
  } else {
    at::addmm_out(target, out, a, b, beta, alpha);
  }
}

at::Tensor linear(const at::Tensor &x, const at::Tensor &weight, const std::optional<at::Tensor> &bias) {
  const bool is_sound = x.dim() >= 2 && weight.dim() == 2 && x.numel() > 0 && x.size(-1) == weight.size(1);
  if (!is_sound || !is_taken(x) || !is_taken(weight) || (bias && !is_taken(*bias)) ||
      !is_worth_it(1, x.numel() / x.size(-1), x.size(-1), weight.size(0)) || !is_gained()) {
    return at::linear(x, weight, bias);
  }
  at::Tensor out = multiply_rows(x, weight.t(), 1.0);
  return bias ? out.add_(*bias) : out;
}

} // namespace backpack_run

extern "C" {

int backpack_run_matmul(const at::Tensor *a, const at::Tensor *b, double alpha, at::Tensor **out, char *message,
                        size_t capacity) {
  return caught(message, capacity, [&] { *out = new at::Tensor(backpack_run::matmul(*a, *b, alpha)); });
}

int backpack_run_matmul_into(const at::Tensor *out, const at::Tensor *a, const at::Tensor *b, double beta, double alpha,
                             char *message, size_t capacity) {
  return guarded(message, capacity, [&] { backpack_run::matmul_into(*out, *a, *b, beta, alpha); });
}

int backpack_run_linear(const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias, at::Tensor **out,
                        char *message, size_t capacity) {
  return caught(message, capacity, [&] {
    const auto shift = bias == nullptr ? std::nullopt : std::optional<at::Tensor>(*bias);
    *out = new at::Tensor(backpack_run::linear(*x, *weight, shift));
  });
}

} // extern "C"
