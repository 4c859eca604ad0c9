// Products of a linear layer by AMX. Tiles of 16 rows and 64 bytes of inputs are multiplied with halves of a panel.
// Each result is summed over the inputs in ascending order, in one chain; tiles are padded with rows of zeros.
#pragma once

#include <cstdlib>
#include <cstring>

#include "amx.h"
#include "linear_dtypes.h"

namespace {

constexpr int kPanelRow = 2 * kTileBytes;          // bytes of a panel's weights for the inputs of a cell
constexpr int kPanelStep = kTileRows * kPanelRow;  // bytes of a panel's weights for one tile of inputs
constexpr int kPairRows = 2 * kTileRows;           // rows multiplied at a time
constexpr int kMaxGroup = 8;                       // panels multiplied with a pair of tiles before the next

// Rows of activations as cells.
struct Cells {
    const char* data;
    int64_t stride;  // in bytes
};

// Sums of products of up to 32 rows with a panel. Rows `done` to `rows` are not yet written to y.
struct alignas(64) Sums {
    float values[kPairRows * kColumns];
    int64_t first_row = 0;
    int panel = 0, done = 0, rows = 0;

    template <class Output>
    void finish(int count, const Output& output) {
        int end = done + count < rows ? done + count : rows;
        for (; done < end; done++) output.finish(first_row + done, panel, values + done * kColumns);
    }
};

// Weights of a panel, and those of its last tile of inputs. `next`: the first of `lines` cache lines to prefetch in each
// step.
struct PanelWeights {
    const char *data, *last, *next;
    int steps, lines;
};

// Multiply 16 rows of x (with `two`: 32) with a panel. Meanwhile finish the previous product, which uses other
// execution units.
template <bool two, class Output>
void multiply(const Cells& above, const Cells& below, PanelWeights& panel, Sums& sums, Sums& previous,
              const Output& output) {
    _tile_zero(0);
    _tile_zero(1);
    if (two) _tile_zero(2);
    if (two) _tile_zero(3);
    int rows_per_step = up(kPairRows, panel.steps) / panel.steps;
    for (int step = 0; step < panel.steps; step++) {
        const char* columns = step + 1 < panel.steps ? panel.data + int64_t(step) * kPanelStep : panel.last;
        _tile_loadd(4, above.data + step * kTileBytes, above.stride);
        _tile_loadd(6, columns, kPanelRow);
        _tile_loadd(7, columns + kTileBytes, kPanelRow);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (two) {
            _tile_loadd(5, below.data + step * kTileBytes, below.stride);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        for (int i = 0; i < panel.lines; i++, panel.next += 64) _mm_prefetch(panel.next, _MM_HINT_T1);
        previous.finish(rows_per_step, output);
    }
    constexpr int kRow = kColumns * int(sizeof(float));
    _tile_stored(0, sums.values, kRow);
    _tile_stored(1, sums.values + kLanes, kRow);
    if (two) _tile_stored(2, sums.values + kTileRows * kColumns, kRow);
    if (two) _tile_stored(3, sums.values + kTileRows * kColumns + kLanes, kRow);
}

// Compute a layer; calls output.finish(row, panel, sums) for each row and panel. Returns 0, or 1 if memory can't be
// allocated.
template <class Output>
int multiply_panels(const LinearArguments& a, int64_t l2_bytes, const Output& output) {
    constexpr int kInputs = 32;
    int steps = up(a.in, kInputs) / kInputs;
    // Whole tiles of bfloat16 rows are read where they are.
    bool in_place = a.x_bfloat16 && a.in % kInputs == 0 && a.x_row % kInputs == 0 && uintptr_t(a.x) % kTileBytes == 0;
    int64_t stride = steps * kTileBytes + kTileBytes;  // in bytes, not a power of two
    int64_t row_bytes = in_place ? steps * kTileBytes : stride;
    int max_block = int(l2_bytes / 2 / row_bytes) / kPairRows * kPairRows;
    max_block = max_block < kPairRows ? kPairRows : max_block;
    int blocks = up(a.rows, max_block) / max_block;
    if (blocks == 0) return 0;
    int block = up(up(a.rows, blocks) / blocks, kPairRows);
    char* memory = static_cast<char*>(aligned_alloc(64, size_t(in_place ? kTileRows : up(block, kTileRows)) * stride));
    if (memory == nullptr) return 1;
    Sums sums[2];
    int now = 0;
    alignas(64) char tail[kPanelStep];
    // Weights of the last tile of inputs, padded with zeros if it is not full.
    int64_t panel_bytes = int64_t(up(a.in, 2)) * kColumns * 2, whole = int64_t(steps - 1) * kPanelStep;
    int max_group = int(l2_bytes / 4 / panel_bytes);
    max_group = max_group < 1 ? 1 : max_group > kMaxGroup ? kMaxGroup : max_group;
    TileShapes shapes;
    _tile_loadconfig(&shapes);
    for (int begin = 0; begin < a.rows; begin += block) {
        int count = a.rows - begin < block ? a.rows - begin : block, full = up(count, kTileRows);
        int copied = in_place ? count / kTileRows * kTileRows : 0;  // first row that is copied
        for (int r = copied; r < count; r++)
            for (int i = 0; i < steps * kInputs; i += kLanes)
                store(memory + (r - copied) * stride, true, i,
                      load(a.x, a.x_bfloat16, (begin + r) * a.x_row + i, first(a.in - i)), 0xffff);
        memset(memory + (count - copied) * stride, 0, size_t(full - count) * stride);
        auto cells = [&](int row) {
            if (row >= copied) return Cells{memory + (row - copied) * stride, stride};
            return Cells{static_cast<const char*>(a.x) + (begin + row) * a.x_row * 2, a.x_row * 2};
        };
        // A few panels at a time for the same rows, so that neighboring columns of y are written one after another.
        int pairs = up(full, kPairRows) / kPairRows;
        PanelWeights weights{nullptr, nullptr, nullptr, steps, up(kPairRows, pairs) / pairs};
        for (int group = 0; group < a.panels; group += max_group) {
            int end = group + max_group < a.panels ? group + max_group : a.panels;
            weights.next = static_cast<const char*>(a.weights) + (end < a.panels ? end : 0) * panel_bytes;
            for (int r = 0; r < full; r += kPairRows) {
                bool two = r + kTileRows < full;
                Cells above = cells(r), below = two ? cells(r + kTileRows) : above;
                for (int panel = group; panel < end; panel++) {
                    weights.data = static_cast<const char*>(a.weights) + panel * panel_bytes;
                    weights.last = weights.data + whole;
                    if (panel_bytes - whole < kPanelStep) {
                        memset(tail, 0, sizeof tail);
                        memcpy(tail, weights.last, size_t(panel_bytes - whole));
                        weights.last = tail;
                    }
                    Sums &current = sums[now], &previous = sums[now ^= 1];
                    current.first_row = begin + r, current.panel = panel, current.done = 0;
                    current.rows = count - r < kPairRows ? count - r : kPairRows;
                    two ? multiply<true>(above, below, weights, current, previous, output)
                        : multiply<false>(above, below, weights, current, previous, output);
                }
            }
        }
    }
    sums[now ^ 1].finish(kPairRows, output);
    _tile_release();
    free(memory);
    return 0;
}

}  // namespace
