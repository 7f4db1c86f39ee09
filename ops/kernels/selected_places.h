// The places of a map that the select form of a box loss reads and writes.
#pragma once

#include "kernels/index_of_float.h"

namespace detectron_ext {

struct MapShape {
  int64_t n;
  int64_t c;
  int64_t h;
  int64_t w;
};

// Returns the index in the map of the first of the four channels at the place (n, c, y, x), or -1
// if one of the four lies outside.
DETECTRON_EXT_HOST_DEVICE int64_t SelectedIndex(const float* place, const MapShape& map) {
  const int64_t n = IndexOfFloat(place[0], map.n);
  const int64_t c = IndexOfFloat(place[1], map.c - 3);
  const int64_t y = IndexOfFloat(place[2], map.h);
  const int64_t x = IndexOfFloat(place[3], map.w);
  const bool inside = n >= 0 && c >= 0 && y >= 0 && x >= 0;
  return inside ? ((n * map.c + c) * map.h + y) * map.w + x : -1;
}

}  // namespace detectron_ext
