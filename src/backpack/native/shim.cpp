// The few libtorch operations that the tch bindings leave out, with C linkage.
//
// Every function returns as `guarded` does. Tensors travel as pointers to at::Tensor, as in torch-sys.

#include "guarded.h"
#include <ATen/ATen.h>
#include <algorithm>
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

// The transposed Jacobian of a normalisation times `grad`, at `rows` that have mean 0 and variance 1 already, of the same
// shape. Rows are the last axis, [*, d], where `groups` is 0, else groups of the channels of [N, C, *]. With a weight, [d]
// or [C], behind the normalisation also the gradients of that weight and of a shift behind it, where asked for.
int backpack_run_normalised_backward(const at::Tensor *grad, const at::Tensor *rows, int64_t groups,
                                     const at::Tensor *weight, int want_rows, int want_weight, int want_shift,
                                     at::Tensor **out, char *message, size_t capacity) {
  return guarded(message, capacity, [&] {
    const std::array<bool, 3> wanted = {want_rows != 0, want_weight != 0, want_shift != 0};
    const auto scale = weight == nullptr ? std::nullopt : std::optional<at::Tensor>(*weight);
    const auto backward = [&] {
      if (groups == 0) {
        auto each = rows->sizes().vec();
        const int64_t length = each.back();
        each.back() = 1;
        const at::Tensor zeros = at::zeros(each, rows->options()), ones = at::ones(each, rows->options());
        return at::native_layer_norm_backward(*grad, *rows, {length}, zeros, ones, scale, scale, wanted);
      }
      const auto format = rows->suggest_memory_format();
      const at::Tensor x = rows->contiguous(format), g = grad->contiguous(format);
      const int64_t samples = x.size(0), channels = x.size(1);
      const at::Tensor zeros = at::zeros({samples, groups}, x.options()), ones = at::ones_like(zeros);
      const int64_t positions = x.numel() / std::max<int64_t>(samples * channels, 1);
      // With channels last libtorch 2.13 writes the first gradient whether it is wanted or not.
      const std::array<bool, 3> taken = {true, wanted[1], wanted[2]};
      return at::native_group_norm_backward(g, x, zeros, ones, scale, samples, channels, positions, groups, taken);
    };
    auto [of_input, of_weight, of_shift] = backward();
    out[0] = wanted[0] ? give(std::move(of_input)) : nullptr;
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
