// Matrix products by whichever of libtorch's two libraries is faster on this processor.

#pragma once

#include <ATen/ATen.h>

namespace backpack_run {

// alpha * a b as of at::matmul, to which it leaves what the other library does not take or would not do faster.
at::Tensor matmul(const at::Tensor &a, const at::Tensor &b, double alpha);

// out = beta * out + alpha * a b, for matrices [m, k], [k, n] and [m, n], or batches of as many of each. `out` may be a
// part of a larger tensor. A beta of zero does not read it.
void matmul_into(const at::Tensor &out, const at::Tensor &a, const at::Tensor &b, double beta, double alpha);

// x w^T + bias on the last axis of x, for a weight [out, in].
at::Tensor linear(const at::Tensor &x, const at::Tensor &weight, const std::optional<at::Tensor> &bias);

} // namespace backpack_run
