// The few libtorch operations that the tch bindings leave out, with C linkage.
//
// Every function returns as `guarded` does. Tensors travel as pointers to at::Tensor, as in torch-sys.

#include "guarded.h"
#include <ATen/ATen.h>
#include <array>

using backpack_run::guarded;

namespace {

at::Tensor *give(at::Tensor tensor) {
  return tensor.defined() ? new at::Tensor(std::move(tensor)) : nullptr;
}

} // namespace

extern "C" {

// The gradients of a (transposed) convolution with respect to its input, weight and bias, each only where asked for.
int backpack_run_convolution_backward(const at::Tensor *grad_output, const at::Tensor *input, const at::Tensor *weight,
                                      const int64_t *stride, const int64_t *padding, const int64_t *dilation,
                                      const int64_t *output_padding, int dimensions, int transposed, int64_t groups,
                                      int want_input, int want_weight, int want_bias, at::Tensor **out, char *message,
                                      size_t capacity) {
  return guarded(message, capacity, [&] {
    const auto spatial = static_cast<size_t>(dimensions);
    const int64_t bias_size = transposed ? weight->size(1) * groups : weight->size(0);
    auto [grad_input, grad_weight, grad_bias] = at::convolution_backward(
        *grad_output, *input, *weight, at::OptionalIntArrayRef(at::IntArrayRef(&bias_size, 1)),
        at::IntArrayRef(stride, spatial), at::IntArrayRef(padding, spatial), at::IntArrayRef(dilation, spatial),
        transposed != 0, at::IntArrayRef(output_padding, spatial), groups,
        {want_input != 0, want_weight != 0, want_bias != 0});
    out[0] = give(std::move(grad_input));
    out[1] = give(std::move(grad_weight));
    out[2] = give(std::move(grad_bias));
  });
}

// The transposed Jacobian of the normalisation of rows times `grad`, for rows of mean 0 and variance 1, which came of rows
// of variance 1: [*, d] each. With a weight [d] behind the normalisation also the gradients of that weight and of a shift
// behind it, where asked for.
int backpack_run_normalised_backward(const at::Tensor *grad, const at::Tensor *rows, const at::Tensor *weight,
                                     int want_rows, int want_weight, int want_shift, at::Tensor **out, char *message,
                                     size_t capacity) {
  return guarded(message, capacity, [&] {
    auto of_rows = rows->sizes().vec();
    const int64_t length = of_rows.back();
    of_rows.back() = 1;
    const std::array<bool, 3> wanted = {want_rows != 0, want_weight != 0, want_shift != 0};
    const auto scale = weight == nullptr ? std::nullopt : std::optional<at::Tensor>(*weight);
    auto [of_input, of_weight, of_shift] =
        at::native_layer_norm_backward(*grad, *rows, {length}, at::zeros(of_rows, rows->options()),
                                       at::ones(of_rows, rows->options()), scale, scale, wanted);
    out[0] = give(std::move(of_input));
    out[1] = give(std::move(of_weight));
    out[2] = give(std::move(of_shift));
  });
}

// self += alpha * other, in place.
int backpack_run_add_scaled(at::Tensor *self, const at::Tensor *other, double alpha, char *message, size_t capacity) {
  return guarded(message, capacity, [&] { self->add_(*other, alpha); });
}

// self += alpha * one * two, in place.
int backpack_run_add_product(at::Tensor *self, const at::Tensor *one, const at::Tensor *two, double alpha, char *message,
                             size_t capacity) {
  return guarded(message, capacity, [&] { self->addcmul_(*one, *two, alpha); });
}

// self += alpha * one / two, in place.
int backpack_run_add_quotient(at::Tensor *self, const at::Tensor *one, const at::Tensor *two, double alpha,
                              char *message, size_t capacity) {
  return guarded(message, capacity, [&] { self->addcdiv_(*one, *two, alpha); });
}

} // extern "C"
