// Products of a linear layer by AMX, in bfloat16 or int8. Tiles of 16 rows and 64 bytes of inputs are multiplied with halves of a panel.
// Each result is summed over the inputs in ascending order, in one chain; tiles are padded with rows of zeros.
#pragma once

#include <cstring>

#include "amx.h"
#include "linear_epilogue.h"

namespace {

// Tiles of a dtype of linear_dtypes.h: sums 0 to 3, rows in 4 and 5, weights in 6 and 7.
template <class N>
struct Tiles;

template <>
struct Tiles<Bfloat16> {
    static void multiply_above() {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
    }
    static void multiply_below() {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
};

template <>
struct Tiles<Int8> {
    static void multiply_above() {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
    }
    static void multiply_below() {
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
};

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
template <class N>
struct alignas(64) Sums {
    char values[kPairRows * kPanelRow];
    const typename N::Row* row = nullptr;  // the first one
    int64_t first_row = 0;
    int panel = 0, done = 0, rows = 0;

    void finish_some(int count, const LinearArguments& a) {
        int end = done + count < rows ? done + count : rows;
        if (done == end) return;
        N::prefetch_outliers(a, row + end, rows - end < count ? rows - end : count, panel * kColumns);
        auto* sums = reinterpret_cast<typename N::Sum*>(values + done * kPanelRow);
        finish<N>(a, row + done, first_row + done, end - done, panel, sums);
        done = end;
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
template <class N, bool two>
void multiply(const LinearArguments& a, const Cells& above, const Cells& below, PanelWeights& panel, Sums<N>& sums,
              Sums<N>& previous) {
    _tile_zero(0);
    _tile_zero(1);
    if (two) _tile_zero(2);
    if (two) _tile_zero(3);
    int rows_per_step = up(kPairRows, panel.steps) / panel.steps;
    for (int step = 0; step < panel.steps; step++) {
        const char* columns = step + 1 < panel.steps ? panel.data + int64_t(step) * kPanelStep : panel.last;
        _tile_loadd(4, above.data + step * kTileBytes, above.stride);
        // Not kept in the L1 cache, where rows of x are needed again.
        _tile_stream_loadd(6, columns, kPanelRow);
        _tile_stream_loadd(7, columns + kTileBytes, kPanelRow);
        Tiles<N>::multiply_above();
        if (two) {
            _tile_loadd(5, below.data + step * kTileBytes, below.stride);
            Tiles<N>::multiply_below();
        }
        for (int i = 0; i < panel.lines; i++, panel.next += 64) _mm_prefetch(panel.next, _MM_HINT_T1);
        previous.finish_some(rows_per_step, a);
    }
    _tile_stored(0, sums.values, kPanelRow);
    _tile_stored(1, sums.values + kTileBytes, kPanelRow);
    if (two) _tile_stored(2, sums.values + kTileRows * kPanelRow, kPanelRow);
    if (two) _tile_stored(3, sums.values + kTileRows * kPanelRow + kTileBytes, kPanelRow);
}

// Compute a layer. Returns 0, or 1 if memory can't be allocated.
template <class N>
int multiply_panels(const LinearArguments& a, int64_t l2_bytes) {
    constexpr int kInputs = kTileBytes / 4 * N::kPerCell;  // of a tile
    int steps = up(a.in, kInputs) / kInputs;
    // Whole tiles of bfloat16 rows are read where they are.
    bool in_place = N::kPerCell == 2 && a.x_bfloat16 && a.in % kInputs == 0 && a.x_row % kInputs == 0 &&
                    uintptr_t(a.x) % kTileBytes == 0;
    int64_t stride = steps * kTileBytes + kTileBytes;  // in bytes, not a power of two
    int64_t cell_bytes = in_place ? steps * kTileBytes : stride;
    int max_block = int(l2_bytes / 2 / cell_bytes) / kPairRows * kPairRows;
    max_block = max_block < kPairRows ? kPairRows : max_block;
    int blocks = up(a.rows, max_block) / max_block;
    if (blocks == 0) return 0;
    int block = up(up(a.rows, blocks) / blocks, kPairRows);
    size_t copied_bytes = size_t(in_place ? kTileRows : block) * stride;
    RowBlock<N> rows(block, a.in, copied_bytes);
    if (rows.cells == nullptr) return 1;
    char* copies = rows.cells;
    Sums<N> sums[2];
    int now = 0;
    alignas(64) char tail[kPanelStep];
    // Weights of the last tile of inputs, padded with zeros if it is not full.
    int64_t panel_bytes = int64_t(up(a.in, N::kPerCell)) / N::kPerCell * kPanelRow;
    int64_t whole = int64_t(steps - 1) * kPanelStep;
    int max_group = int(l2_bytes / 4 / panel_bytes);
    max_group = max_group < 1 ? 1 : max_group > kMaxGroup ? kMaxGroup : max_group;
    TileShapes shapes;
    _tile_loadconfig(&shapes);
    for (int begin = 0; begin < a.rows; begin += block) {
        int count = a.rows - begin < block ? a.rows - begin : block, full = up(count, kTileRows);
        int copied = in_place ? count / kTileRows * kTileRows : 0;  // first row that is copied
        rows.clear();
        for (int r = copied; r < count; r++) {
            char* to = copies + (r - copied) * stride;
            memset(to + stride - 2 * kTileBytes, 0, 2 * kTileBytes);
            rows.read(a, begin + r, r, to);
        }
        memset(copies + (count - copied) * stride, 0, size_t(full - count) * stride);
        auto cells = [&](int row) {
            if (row >= copied) return Cells{copies + (row - copied) * stride, stride};
            return Cells{static_cast<const char*>(a.x) + (begin + row) * a.x_row * 2, a.x_row * 2};
        };
        // A few panels at a time for the same rows, so that neighboring columns of y are written one after another.
        int pairs = up(full, kPairRows) / kPairRows;
        PanelWeights weights{nullptr, nullptr, nullptr, steps, up(kPairRows, pairs) / pairs};
        for (int group = 0; group < a.panels; group += max_group) {
            int end = group + max_group < a.panels ? group + max_group : a.panels;
            weights.next = static_cast<const char*>(N::weights(a)) + (end < a.panels ? end : 0) * panel_bytes;
            for (int r = 0; r < full; r += kPairRows) {
                bool two = r + kTileRows < full;
                Cells above = cells(r), below = two ? cells(r + kTileRows) : above;
                for (int panel = group; panel < end; panel++) {
                    weights.data = static_cast<const char*>(N::weights(a)) + panel * panel_bytes;
                    weights.last = weights.data + whole;
                    if (panel_bytes - whole < kPanelStep) {
                        memset(tail, 0, sizeof tail);
                        memcpy(tail, weights.last, size_t(panel_bytes - whole));
                        weights.last = tail;
                    }
                    Sums<N>&current = sums[now], &previous = sums[now ^= 1];
                    current.row = rows.rows + r;
                    current.first_row = begin + r, current.panel = panel, current.done = 0;
                    current.rows = count - r < kPairRows ? count - r : kPairRows;
                    two ? multiply<N, true>(a, above, below, weights, current, previous)
                        : multiply<N, false>(a, above, below, weights, current, previous);
                }
            }
        }
        sums[now ^ 1].finish_some(kPairRows, a);
    }
    _tile_release();
    return 0;
}

}  // namespace
