// A loss of M rows of four numbers against four channels each at M places of a map.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/parallel.h"

namespace detectron_ext {

struct MapShape {
  int64_t n;
  int64_t c;
  int64_t h;
  int64_t w;
};

// Returns the index in the map of the first of the four channels at the place (n, c, y, x), or -1
// where not all four lie inside. Fractions are dropped, as Detectron does.
inline int64_t SelectedIndex(const float* place, const MapShape& map) {
  const bool inside = place[0] > -1 && place[0] < map.n && place[1] > -1 && place[1] < map.c - 3 &&
      place[2] > -1 && place[2] < map.h && place[3] > -1 && place[3] < map.w;
  if (!inside) {  // a NaN too
    return -1;
  }
  const int64_t n = static_cast<int64_t>(place[0]);
  const int64_t c = static_cast<int64_t>(place[1]);
  const int64_t y = static_cast<int64_t>(place[2]);
  const int64_t x = static_cast<int64_t>(place[3]);
  return ((n * map.c + c) * map.h + y) * map.w + x;
}

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
  const float* y;       // (rows, 4)
  const float* places;  // (rows, 4): n, c, y, x, all inside the map
};

// Returns the sum of loss(difference) over all rows; a formula is as in kernels/dense_loss.h.
template <typename Formula>
double SelectLossSum(const SelectLossInputs& in, const Formula& formula) {
  const int64_t plane = in.map.h * in.map.w;
  double sum = 0;
  for (int64_t i = 0; i < in.rows; ++i) {
    const int64_t first = SelectedIndex(in.places + 4 * i, in.map);
    for (int j = 0; j < 4; ++j) {
      sum += formula.Loss(in.y_hat[first + j * plane] - in.y[4 * i + j]);
    }
  }
  return sum;
}

// Writes factor * the derivative of the loss at the places and 0 elsewhere. A place that several
// rows select gets their sum.
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
    for (int j = 0; j < 4; ++j) {
      const int64_t at = first + j * plane;
      gradient[at] += factor * formula.Gradient(in.y_hat[at] - in.y[4 * i + j]);
    }
  }
}

}  // namespace detectron_ext
