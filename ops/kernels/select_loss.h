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
  const bool inside = place[0] > -1 && place[0] < map.n && place[1] > -1 &&
      place[1] < map.c - 3 && place[2] > -1 && place[2] < map.h && place[3] > -1 &&
      place[3] < map.w;
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

// Returns the sum of penalty(difference) over all rows. Every place must lie inside.
template <typename Penalty>
double SelectLoss(
    const float* y_hat, const MapShape& map, const float* y, const float* places, int64_t rows,
    const Penalty& penalty) {
  const int64_t plane = map.h * map.w;
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t first = SelectedIndex(places + 4 * i, map);
    for (int j = 0; j < 4; ++j) {
      sum += penalty(y_hat[first + j * plane] - y[4 * i + j]);
    }
  }
  return sum;
}

// Writes factor * slope(difference) at the places and 0 elsewhere. A place that several rows
// select gets their sum.
template <typename Slope>
void SelectLossGradient(
    const float* y_hat, const MapShape& map, const float* y, const float* places, int64_t rows,
    float factor, const Slope& slope, float* gradient, ParallelFor parallel_for) {
  const int64_t plane = map.h * map.w;
  ForEachBlock(
      parallel_for, map.n * map.c * plane, 1 << 16, [gradient](int64_t begin, int64_t end) {
        std::memset(gradient + begin, 0, (end - begin) * sizeof(float));
      });
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t first = SelectedIndex(places + 4 * i, map);
    for (int j = 0; j < 4; ++j) {
      const int64_t at = first + j * plane;
      gradient[at] += factor * slope(y_hat[at] - y[4 * i + j]);
    }
  }
}

}  // namespace detectron_ext
