// Cholesky's decomposition in place, of one matrix by columns.

#pragma once

#include <cstdint>

namespace backpack_run {

// The lower triangle of a [width, width] matrix by columns becomes L with L L^T the matrix; what lies above the diagonal
// is not read, and of no use afterwards. Says whether it came to its end with finite pivots.
bool decompose(float *matrix, int64_t width);
bool decompose(double *matrix, int64_t width);

} // namespace backpack_run
