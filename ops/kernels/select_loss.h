// The select form of a box loss: M rows of four targets, and M places of a map that select four
// channels each.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/parallel.h"
#include "kernels/selected_places.h"

namespace detectron_ext {

// Returns the first row of places (rows, 4) that lies outside the map, or -1.
inline int64_t FirstPlaceOutside(const float* places, int64_t rows, const MapShape& map) {
  for (int64_t i = 0; i < rows; ++i) {
    if (SelectedIndex(places + 4 * i, map) < 0) {
      return i;
    }
  }
  return -1;
}

struct SelectLossInputs {
  const float* y_hat;  // the map
  MapShape map;
  int64_t rows;
  const float* y;        // (rows, 4)
  const float* places;   // (rows, 4): n, c, y, x, all inside the map
  const float* weights;  // (rows,), or nullptr for weights of 1
};

// Returns the weight of row i.
inline float WeightOfRow(const SelectLossInputs& in, int64_t i) {
  return in.weights == nullptr ? 1.0f : in.weights[i];
}

// Returns the sum of weight * loss(difference) over all rows. A formula is as in kernels/dense_loss.h.
template <typename Formula>
double SelectLossSum(const SelectLossInputs& in, const Formula& formula) {
  const int64_t plane = in.map.h * in.map.w;
  double sum = 0;
  for (int64_t i = 0; i < in.rows; ++i) {
    const int64_t first = SelectedIndex(in.places + 4 * i, in.map);
    const double weight = WeightOfRow(in, i);
    for (int j = 0; j < 4; ++j) {
      sum += weight * formula.Loss(in.y_hat[first + j * plane] - in.y[4 * i + j]);
    }
  }
  return sum;
}

// Writes factor * the derivative of the loss at the places, and 0 elsewhere. A place that several
// rows select gets the sum of their derivatives.
template <typename Formula>
void SelectLossGradient(const SelectLossInputs& in, const Formula& formula, float factor,
                        float* gradient, ParallelFor parallel_for) {
  const int64_t plane = in.map.h * in.map.w;
  ForEachBlock(parallel_for, in.map.n * in.map.c * plane, 1 << 16,
               [gradient](int64_t begin, int64_t end) {
                 std::memset(gradient + begin, 0, (end - begin) * sizeof(float));
               });
  for (int64_t i = 0; i < in.rows; ++i) {
    const int64_t first = SelectedIndex(in.places + 4 * i, in.map);
    const float weighted = factor * WeightOfRow(in, i);
    for (int j = 0; j < 4; ++j) {
      const int64_t at = first + j * plane;
      gradient[at] += weighted * formula.Gradient(in.y_hat[at] - in.y[4 * i + j]);
    }
  }
}

}  // namespace detectron_ext
