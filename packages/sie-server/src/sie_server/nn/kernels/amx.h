// A linear layer in bfloat16 by AMX. Tiles of 16 rows and 32 inputs are multiplied with halves of a panel. Each result
// is one chain of sums over a row and a column, in ascending order; rows that fill up a tile are zeros.
#pragma once

#include <cstdlib>
#include <cstring>

#include "linear_dtypes.h"

namespace {

constexpr int kTileRows = 16, kTileInputs = 32, kTileBytes = 64;
// Of a block of rows, so that they and two panels of weights stay in the second cache: no processor with AMX has less
// than 2 MiB of it.
constexpr int kTiledBytes = 1 << 20;
constexpr int kPanelStep = kTileInputs * kColumns * 2;  // bytes of a panel's weights for the inputs of a tile
constexpr int kPanelRow = 2 * kTileBytes;               // bytes of a panel's weights for two inputs

// Eight tiles, each of 16 rows of 64 bytes, as LDTILECFG reads it.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    TileShapes() {
        for (int i = 0; i < 8; i++) bytes[i] = kTileBytes, rows[i] = kTileRows;
    }
};

// Sums of up to 32 rows and a panel, of which rows from `done` to `rows` are still to become part of y.
struct alignas(64) Sums {
    float of[2 * kTileRows * kColumns];
    int64_t number = 0;  // of the first row
    int panel = 0, done = 0, rows = 0;

    template <class Finished>
    void finish(int count, const Finished& finished) {
        for (; count > 0 && done < rows; count--, done++) finished(number + done, panel, of + done * kColumns);
    }
};

// 16 or, with `two`, 32 rows of x as cells, times a panel; meanwhile what comes after the product before, for which the
// processor has other units. `last`: the weights of the last tile of inputs.
template <bool two, class Finished>
void multiply(const char* cells, int64_t stride, const char* weights, const char* last, int steps, Sums& sums,
              Sums& before, const Finished& finished) {
    _tile_zero(0);
    _tile_zero(1);
    if (two) _tile_zero(2);
    if (two) _tile_zero(3);
    const char* below = cells + kTileRows * stride;
    int each = up(before.rows, steps) / steps;
    for (int step = 0; step < steps; step++) {
        const char* columns = step + 1 < steps ? weights + int64_t(step) * kPanelStep : last;
        _tile_loadd(4, cells + step * kTileBytes, stride);
        _tile_loadd(6, columns, kPanelRow);
        _tile_loadd(7, columns + kTileBytes, kPanelRow);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (two) {
            _tile_loadd(5, below + step * kTileBytes, stride);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        before.finish(each, finished);
    }
    constexpr int kRow = kColumns * int(sizeof(float));
    _tile_stored(0, sums.of, kRow);
    _tile_stored(1, sums.of + kLanes, kRow);
    if (two) _tile_stored(2, sums.of + kTileRows * kColumns, kRow);
    if (two) _tile_stored(3, sums.of + kTileRows * kColumns + kLanes, kRow);
}

// `finished(number, panel, sums)` for each row and panel.
template <class Finished>
int by_tiles(const LinearArguments& a, const Finished& finished) {
    int steps = up(a.in, kTileInputs) / kTileInputs;
    int64_t stride = steps * kTileBytes + kTileBytes;  // bytes, not a power of two
    int most = int(kTiledBytes / stride) / (2 * kTileRows) * (2 * kTileRows);
    most = most < 2 * kTileRows ? 2 * kTileRows : most;
    int blocks = up(a.rows, most) / most;
    if (blocks == 0) return 0;
    int block = up(up(a.rows, blocks) / blocks, kTileRows);
    char* cells = static_cast<char*>(aligned_alloc(64, size_t(block) * stride));
    if (cells == nullptr) return 1;
    Sums sums[2];
    int now = 0;
    alignas(64) char tail[kPanelStep];
    // The weights of the last tile, where there are fewer inputs, are copied with zeros behind them.
    int64_t panel_bytes = int64_t(up(a.in, 2)) * kColumns * 2, whole = int64_t(steps - 1) * kPanelStep;
    bool short_tail = panel_bytes - whole < kPanelStep;
    TileShapes shapes;
    _tile_loadconfig(&shapes);
    for (int begin = 0; begin < a.rows; begin += block) {
        int count = a.rows - begin < block ? a.rows - begin : block, full = up(count, kTileRows);
        for (int r = 0; r < count; r++)
            for (int i = 0; i < steps * kTileInputs; i += kLanes)
                store(cells + r * stride, true, i, load(a.x, a.x_bfloat16, (begin + r) * a.x_row + i, first(a.in - i)),
                      0xffff);
        memset(cells + count * stride, 0, size_t(full - count) * stride);
        for (int panel = 0; panel < a.panels; panel++) {
            const char* weights = static_cast<const char*>(a.weights) + panel * panel_bytes;
            const char* last = weights + whole;
            if (short_tail) {
                memset(tail, 0, sizeof tail);
                memcpy(tail, last, size_t(panel_bytes - whole));
                last = tail;
            }
            for (int r = 0; r < full; r += 2 * kTileRows) {
                const char* from = cells + r * stride;
                Sums &own = sums[now], &before = sums[now ^= 1];
                r + kTileRows < full ? multiply<true>(from, stride, weights, last, steps, own, before, finished)
                                     : multiply<false>(from, stride, weights, last, steps, own, before, finished);
                own.number = begin + r, own.panel = panel, own.done = 0;
                own.rows = count - r < 2 * kTileRows ? count - r : 2 * kTileRows;
            }
        }
    }
    sums[now ^ 1].finish(2 * kTileRows, finished);
    _tile_release();
    free(cells);
    return 0;
}

}  // namespace
