// A linear layer in bfloat16 by AMX. Tiles of 16 rows and 32 inputs are multiplied with halves of a panel. Each result
// is summed over the inputs in ascending order, in one chain; tiles are padded with rows of zeros.
#pragma once

#include <cstdlib>
#include <cstring>

#include "linear_dtypes.h"

namespace {

constexpr int kTileRows = 16, kTileInputs = 32, kTileBytes = 64;
// Bytes of a block of rows, so that it and two panels of weights fit into the L2 cache, of which every processor with
// AMX has at least 2 MiB.
constexpr int kTiledBytes = 1 << 20;
constexpr int kPanelStep = kTileInputs * kColumns * 2;  // bytes of a panel's weights for one tile of inputs
constexpr int kPanelRow = 2 * kTileBytes;               // bytes of a panel's weights for two inputs

// The operand of LDTILECFG: eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    TileShapes() {
        for (int i = 0; i < 8; i++) bytes[i] = kTileBytes, rows[i] = kTileRows;
    }
};

// Sums of products of up to 32 rows with a panel. Rows `done` to `rows` are not yet written to y.
struct alignas(64) Sums {
    float values[2 * kTileRows * kColumns];
    int64_t first_row = 0;
    int panel = 0, done = 0, rows = 0;

    template <class Finished>
    void finish(int count, const Finished& finished) {
        for (; count > 0 && done < rows; count--, done++) finished(first_row + done, panel, values + done * kColumns);
    }
};

// Multiply 16 rows of x (with `two`: 32) with a panel. Meanwhile finish the previous product, which uses other
// execution units. `last`: weights of the last tile of inputs.
template <bool two, class Finished>
void multiply(const char* cells, int64_t stride, const char* weights, const char* last, int steps, Sums& sums,
              Sums& previous, const Finished& finished) {
    _tile_zero(0);
    _tile_zero(1);
    if (two) _tile_zero(2);
    if (two) _tile_zero(3);
    const char* below = cells + kTileRows * stride;
    int rows_per_step = up(previous.rows, steps) / steps;
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
        previous.finish(rows_per_step, finished);
    }
    constexpr int kRow = kColumns * int(sizeof(float));
    _tile_stored(0, sums.values, kRow);
    _tile_stored(1, sums.values + kLanes, kRow);
    if (two) _tile_stored(2, sums.values + kTileRows * kColumns, kRow);
    if (two) _tile_stored(3, sums.values + kTileRows * kColumns + kLanes, kRow);
}

// Compute a layer; calls finished(row, panel, sums) for each row and panel. Returns 0, or 1 if memory can't be
// allocated.
template <class Finished>
int multiply_tiles(const LinearArguments& a, const Finished& finished) {
    int steps = up(a.in, kTileInputs) / kTileInputs;
    int64_t stride = steps * kTileBytes + kTileBytes;  // in bytes, not a power of two
    int max_block = int(kTiledBytes / stride) / (2 * kTileRows) * (2 * kTileRows);
    max_block = max_block < 2 * kTileRows ? 2 * kTileRows : max_block;
    int blocks = up(a.rows, max_block) / max_block;
    if (blocks == 0) return 0;
    int block = up(up(a.rows, blocks) / blocks, kTileRows);
    char* cells = static_cast<char*>(aligned_alloc(64, size_t(block) * stride));
    if (cells == nullptr) return 1;
    Sums sums[2];
    int now = 0;
    alignas(64) char tail[kPanelStep];
    // Weights of the last tile of inputs, padded with zeros if it is not full.
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
                Sums &current = sums[now], &previous = sums[now ^= 1];
                r + kTileRows < full ? multiply<true>(from, stride, weights, last, steps, current, previous, finished)
                                     : multiply<false>(from, stride, weights, last, steps, current, previous, finished);
                current.first_row = begin + r, current.panel = panel, current.done = 0;
                current.rows = count - r < 2 * kTileRows ? count - r : 2 * kTileRows;
            }
        }
    }
    sums[now ^ 1].finish(2 * kTileRows, finished);
    _tile_release();
    free(cells);
    return 0;
}

}  // namespace
