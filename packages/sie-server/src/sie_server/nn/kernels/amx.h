// Tiles of AMX: eight of 16 rows of 64 bytes.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kTileRows = 16, kTileBytes = 64;
constexpr int kTileColumns = kTileBytes / 4;  // sums in a row of a tile

// The operand of LDTILECFG.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    TileShapes() {
        for (int i = 0; i < 8; i++) bytes[i] = kTileBytes, rows[i] = kTileRows;
    }
};

// c = a · b, or c += a · b with `add`, for 16 rows (with `below`: 32) and 16 columns (with `beside`: 32) in bfloat16.
// Strides are in cells of 4 bytes; a step is 16 cells of a row of a, and 16 rows of b.
inline void multiply_tiles(bool below, bool beside, const uint32_t* a, int64_t a_row, const uint32_t* b, int64_t b_row,
                           int steps, float* c, int64_t c_row, bool add) {
    float* second = c + kTileRows * c_row;
    if (add) {
        _tile_loadd(0, c, c_row * 4);
        if (beside) _tile_loadd(1, c + kTileColumns, c_row * 4);
        if (below) _tile_loadd(2, second, c_row * 4);
        if (below && beside) _tile_loadd(3, second + kTileColumns, c_row * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int step = 0; step < steps; step++, a += kTileColumns, b += kTileRows * b_row) {
        _tile_loadd(4, a, a_row * 4);
        _tile_loadd(6, b, b_row * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (beside) _tile_loadd(7, b + kTileColumns, b_row * 4);
        if (beside) _tile_dpbf16ps(1, 4, 7);
        if (below) {
            _tile_loadd(5, a + kTileRows * a_row, a_row * 4);
            _tile_dpbf16ps(2, 5, 6);
            if (beside) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, c_row * 4);
    if (beside) _tile_stored(1, c + kTileColumns, c_row * 4);
    if (below) _tile_stored(2, second, c_row * 4);
    if (below && beside) _tile_stored(3, second + kTileColumns, c_row * 4);
}

}  // namespace
