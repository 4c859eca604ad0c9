// Softmax attention over packed sequences for one instruction set, named by LEVEL and enabled by the compiler's flags.
//
// For every sequence and key head, K and V are copied once into the order in which the products read them. Then, head
// by head, each panel of a few queries iterates over blocks of keys: logits, softmax with a running maximum (Milakov
// and Gimelshein 2018) and the weighted sum of the values, in the L1 cache; K and V stream from the L2 cache. Logits,
// weights and sums are kept transposed, with a query per lane, so that a softmax needs no operation across lanes. The
// computation for a query depends on its sequence alone, so its bits do not depend on the batch.
//
// No templates of the standard library: the linker would keep a single copy of each, compiled for any instruction set.

#include "attention.h"

#include <cmath>
#include <cstdlib>

#include "attention_cells.h"

namespace {

constexpr float kLowest = -1e30f;  // below any logit, and finite times any factor

struct Tile {
    // Logits of a block, [keys, kPanel]; its weights, [keys / kPair, kPanel], replace them from the beginning.
    alignas(64) float logits[(kKeys + kRows) * kPanel];
    alignas(64) Cell queries[kMaxHeadDim / kPair * kPanel];
    alignas(64) float out[(kMaxHeadDim + kRows) * kPanel];
    alignas(64) float maximum[kPanel], sum[kPanel];
    alignas(64) float factor[kPanel];  // from a logit to a power of two
    alignas(64) int32_t low[kPanel], high[kPanel];  // keys to which a query attends
};

// ---- Products

#ifndef __AMX_BF16__
#if defined(__AVX512BF16__)
typedef Vec Sum;
inline Vec multiply_add(Cell a, Bits b, Vec sum) {
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
}
#elif defined(INTEGER_PRODUCTS)
typedef Bits Sum;
inline Bits multiply_add(Cell a, Bits b, Bits sum) {
    return (Bits)_mm512_dpwssd_epi32((__m512i)sum, _mm512_set1_epi32(a), (__m512i)b);
}
inline Vec value(Bits sum) { return (Vec)_mm512_cvtepi32_ps((__m512i)sum); }
#else
typedef Vec Sum;
inline Vec multiply_add(Cell a, Bits b, Vec sum) { return load<float>(&a) * (Vec)b + sum; }
#endif
inline Vec value(Vec sum) { return sum; }

// Sums of floats go on where those so far end; sums of integers are added to them.
inline void begin(const float* so_far, bool add, Vec& sum) { sum = add ? load<Vec>(so_far) : Vec{}; }
inline void end(Vec sum, bool, float* so_far) { store(so_far, sum); }
#ifdef INTEGER_PRODUCTS
inline void begin(const float*, bool, Bits& sum) { sum = Bits{}; }
inline void end(Bits sum, bool add, float* so_far) {
    // Without a branch, for which the compiler would keep copies of all sums in every step.
    store(so_far, value(sum) + (Vec)_mm512_maskz_loadu_ps(add ? 0xffff : 0, so_far));
}
#endif

// c = a · b, or c += a · b with `add`, for R rows and C · kLanes columns, in registers.
template <int R, int C>
void product(const Cell* a, int a_row, const Cell* b, int steps, float* c, bool add) {
    Sum sums[R][C];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int j = 0; j < C; j++) begin(c + r * kPanel + j * kLanes, add, sums[r][j]);
    if (steps <= 0) __builtin_unreachable();  // or the compiler would keep copies of the sums for what follows the loop
    for (int step = 0; step < steps; step++) {
        Bits columns[C];
#pragma GCC unroll 2
        for (int j = 0; j < C; j++) columns[j] = load<Bits>(b + step * kPanel + j * kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int j = 0; j < C; j++) sums[r][j] = multiply_add(a[r * a_row + step], columns[j], sums[r][j]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int j = 0; j < C; j++) end(sums[r][j], add, c + r * kPanel + j * kLanes);
}

template <int C, int R = kRows>
inline void product(int rows, const Cell* a, int a_row, const Cell* b, int steps, float* c, bool add) {
    if (rows == R)
        product<R, C>(a, a_row, b, steps, c, add);
    else if constexpr (R > 1)
        product<C, R - 1>(rows, a, a_row, b, steps, c, add);
}
#endif

// c = a · b, or c += a · b with `add`, for any number of rows and C · kLanes columns of a panel.
template <int C>
void products(int rows, const Cell* a, int a_row, const Cell* b, int steps, float* c, bool add) {
#ifdef __AMX_BF16__
    for (int done = 0; done < rows; done += kRows)
        multiply_tiles(rows - done > kTileRows, C == 2, a + int64_t(done) * a_row, a_row, b, kPanel, steps / kStepCells,
                       c + done * kPanel, kPanel, add);
#else
    // Tiles of nearly equal size: a small last one would leave registers unused.
    int tiles = up(rows, kRows) / kRows;
    for (int t = 0, done = 0; t < tiles; t++) {
        int size = (rows - done) / (tiles - t);
        product<C>(size, a + int64_t(done) * a_row, a_row, b, steps, c + done * kPanel, add);
        done += size;
    }
#endif
}

// ---- Softmax

inline Vec larger(Vec x, Vec y) {  // y if either is NaN
#ifdef __AVX512F__
    return (Vec)_mm512_max_ps((__m512)x, (__m512)y);
#else
    return x > y ? x : y;
#endif
}

// 2^x for x <= 0; exactly 0 below -127. By the polynomial with minimax relative error on [-1/2, 1/2]: 7.5e-8, or 7.5e-5
// where the result is rounded to bfloat16 (3.9e-3) or to one of 4096 integers (1.2e-4).
inline Vec exp2(Vec x) {
    x = larger(Vec{} - 127.0f, x);
    Vec shifted = x + 0x1.8p23f;  // its lowest bits are the nearest integer
    Vec f = x - (shifted - 0x1.8p23f);
#if defined(__AVX512BF16__) || defined(INTEGER_PRODUCTS)
    Vec y = ((0.0551716685f * f + 0.242611125f) * f + 0.693260968f) * f + 0.999928057f;
#else
    Vec y = (0.00132764725f * f + 0.00967554189f) * f + 0.0555071309f;
    y = ((y * f + 0.240221202f) * f + 0.693146944f) * f + 1.00000012f;
#endif
    return y * (Vec)(((Bits)shifted + 127u) << 23);  // -127 gives the bits of 0; a product keeps NaN
}

// Store the weights of kPair keys for one vector of queries.
inline void store_weights(Cell* to, const Vec* weights) {
#ifdef __AVX512BF16__
    alignas(64) static constexpr uint16_t kInterleaved[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,
                                                              21, 6, 22, 7, 23, 8,  24, 9,  25, 10, 26,
                                                              11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)weights[1], (__m512)weights[0]);
    store(to, _mm512_permutexvar_epi16(load<__m512i>(kInterleaved), halves));
#elif defined(INTEGER_PRODUCTS)
    __m512i low = _mm512_cvtps_epi32((__m512)weights[0]), high = _mm512_cvtps_epi32((__m512)weights[1]);
    store(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
#else
    store(to, weights[0]);
#endif
}

inline int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

// Set the logits of keys to which a query does not attend to -∞. `from`: the block's first key.
template <int C>
void mask(Tile& tile, int from, int begin, int end) {
    typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
    for (int j = 0; j < C; j++) {
        Ints low = load<Ints>(tile.low + j * kLanes), high = load<Ints>(tile.high + j * kLanes);
        for (int key = begin; key < end; key++) {
            float* logits = tile.logits + (key - from) * kPanel + j * kLanes;
            store(logits, (low <= key) & (high > key) ? load<Vec>(logits) : Vec{} - INFINITY);
        }
    }
}

// Turn logits of a block into weights exp(logit - maximum), padded with zeros. Updates the running maximum and sum, and
// rescales the output so far. Of integers, the weights and their sum are 2^kWeightBits as large.
template <int C>
void softmax(Tile& tile, int keys, int width, bool first) {
    constexpr int kUnrolled = 4;  // independent chains
    Vec maxima[kUnrolled][C];
    for (int j = 0; j < C; j++) maxima[0][j] = load<Vec>(tile.maximum + j * kLanes);
    for (int u = 1; u < kUnrolled; u++)
        for (int j = 0; j < C; j++) maxima[u][j] = maxima[0][j];
    int key = 0;
    for (; key + kUnrolled <= keys; key += kUnrolled)
#pragma GCC unroll 4
        for (int u = 0; u < kUnrolled; u++)
#pragma GCC unroll 2
            for (int j = 0; j < C; j++)
                maxima[u][j] = larger(load<Vec>(tile.logits + (key + u) * kPanel + j * kLanes), maxima[u][j]);
    for (; key < keys; key++)
        for (int j = 0; j < C; j++)
            maxima[0][j] = larger(load<Vec>(tile.logits + key * kPanel + j * kLanes), maxima[0][j]);
    Vec offset[C], factor[C], sum[C] = {};
    for (int j = 0; j < C; j++) {
        factor[j] = load<Vec>(tile.factor + j * kLanes);
        Vec before = load<Vec>(tile.maximum + j * kLanes), now = maxima[0][j];
        for (int u = 1; u < kUnrolled; u++) now = larger(maxima[u][j], now);
        offset[j] = kIntegers ? now : now * -factor[j];
        store(tile.maximum + j * kLanes, now);
        if (first) continue;
        Vec shrunk = exp2((before - now) * factor[j]);
        store(tile.sum + j * kLanes, load<Vec>(tile.sum + j * kLanes) * shrunk);
        for (int d = 0; d < width; d++)
            store(tile.out + d * kPanel + j * kLanes, load<Vec>(tile.out + d * kPanel + j * kLanes) * shrunk);
    }
    Cell* weights = reinterpret_cast<Cell*>(tile.logits);
    for (key = 0; key < keys; key += kPair, weights += kPanel)
#pragma GCC unroll 2
        for (int j = 0; j < C; j++) {
            Vec y[kPair];
#pragma GCC unroll 2
            for (int i = 0; i < kPair; i++) {
                Vec logit = load<Vec>(tile.logits + (key + i) * kPanel + j * kLanes);
                // Of integers, never above the largest weight.
                y[i] = exp2(kIntegers ? (logit - offset[j]) * factor[j] + float(kWeightBits) : logit * factor[j] + offset[j]);
                if (kPair > 1 && key + i >= keys) y[i] = Vec{};
                sum[j] += y[i];
            }
            store_weights(weights + j * kLanes, y);
        }
    int padding = up(keys, kPair * kStepCells) / kPair - up(keys, kPair) / kPair;
    memset(weights, 0, sizeof(Cell) * padding * kPanel);
    for (int j = 0; j < C; j++) {
        Vec before = first ? Vec{} : load<Vec>(tile.sum + j * kLanes);
        store(tile.sum + j * kLanes, before + sum[j]);
    }
}

// ---- Attention

// Bits rounded to bfloat16 in the upper half; NaN stays NaN.
inline Bits rounded(Vec x) {
    Bits bits = (Bits)x, up = bits + 0x7fffu + (bits >> 16 & 1u);
    return x == x ? up : Bits{} + 0x7fc00000u;
}

// Write weighted sums over sums of weights to rows of `out`, the first of which is at `element`. `scales`: of integers,
// by channel.
template <int C>
void write(const AttentionArguments& a, Tile& tile, const float* scales, int queries, int64_t element) {
    for (int j = 0; j < C; j++) {
        Vec inverse = 1.0f / load<Vec>(tile.sum + j * kLanes);
        int rows = queries - j * kLanes < kLanes ? queries - j * kLanes : kLanes;
        // Of bfloat16, a lane holds two results.
        int per_lane = a.v_bfloat16 ? 2 : 1, block_width = per_lane * kLanes;
        for (int d = 0; d < a.head_dim; d += block_width) {
            Bits block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) {
                Vec x[2];
                for (int k = 0; k < per_lane; k++) {
                    int channel = d + i * per_lane + k;
                    x[k] = load<Vec>(tile.out + channel * kPanel + j * kLanes) * inverse;
                    if (kIntegers) x[k] *= scales[channel];
                }
                if (per_lane == 1)
                    block[i] = (Bits)x[0];
                else
                    block[i] = rounded(x[0]) >> 16 | (rounded(x[1]) & 0xffff0000u);
            }
            transpose(block);
            int bytes = (a.head_dim - d < block_width ? a.head_dim - d : block_width) * 4 / per_lane;
            char* to = static_cast<char*>(a.out);
            for (int r = 0; r < rows; r++) {
                char* row = to + (element + (j * kLanes + r) * a.out_row + d) * 4 / per_lane;
                if (bytes == int(sizeof(Bits)))
                    store(row, block[r]);
                else
                    memcpy(row, &block[r], bytes);
            }
        }
    }
}

struct Head {
    HeadRows queries;
    const Cell *keys, *values;
    float key_scale;
    const float* value_scales;
    int key_count, depth, width, value_row;
    int64_t out;  // element of the first query
};

// Attention of up to C · kLanes queries of one head, from the sequence's query `first` on.
template <int C>
void attend(const AttentionArguments& a, const Head& head, int first, int count, Tile& tile) {
    int position = first + (a.causal ? head.key_count - head.queries.count : 0);
    for (int i = 0; i < C * kLanes; i++) {
        int at = position + (i < count ? i : count - 1);
        int64_t end = a.causal ? at + 1 : a.window < 0 ? head.key_count : int64_t(at) + a.window + 1;
        tile.low[i] = a.window < 0 || at < a.window ? 0 : at - a.window;
        tile.high[i] = int(end < head.key_count ? end : head.key_count);
        tile.maximum[i] = kLowest;
    }
    copy_queries(head.queries, first, C * kLanes, head.depth, tile.queries, tile.factor);
    for (float& factor : tile.factor) factor *= a.scale * float(M_LOG2E) * head.key_scale;
    int first_key = tile.low[0] / (kPair * kStepCells) * (kPair * kStepCells), last = tile.high[count - 1];
    for (int from = first_key; from < last; from += kKeys) {
        int keys = last - from < kKeys ? last - from : kKeys;
        const Cell *key = head.keys + int64_t(from) * head.depth, *value = head.values + from / kPair;
        products<C>(keys, key, head.depth, tile.queries, head.depth, tile.logits, false);
        // All of the panel's queries attend to the keys from `begin` to `end` of the block.
        int block_end = from + keys, begin = clamp(tile.low[count - 1], from, block_end);
        int end = clamp(tile.high[0], begin, block_end);
        mask<C>(tile, from, from, begin);
        mask<C>(tile, from, end, block_end);
        softmax<C>(tile, keys, a.head_dim, from == first_key);
        products<C>(a.head_dim, value, head.value_row, reinterpret_cast<Cell*>(tile.logits),
                    up(keys, kPair * kStepCells) / kPair, tile.out, from != first_key);
    }
    write<C>(a, tile, head.value_scales, count, head.out + first * a.out_row);
}

}  // namespace

#define NAME(level) NAME_(level)
#define NAME_(level) attention_##level

int NAME(LEVEL)(const AttentionArguments& a) {
    int longest = 0;
    for (int s = 0; s < a.sequences; s++) {
        int keys = a.key_starts[s + 1] - a.key_starts[s];
        longest = keys > longest ? keys : longest;
    }
    int depth = up(a.head_dim, kPair * kLanes) / kPair, width = up(a.head_dim, kLanes);
    // In cells, not a power of two, and with room for the last keys of a block.
    int value_row = up(longest, kPair * kLanes) / kPair + kLanes;
    size_t key_cells = size_t(up(longest, kRows)) * depth, value_cells = size_t(up(width, kRows)) * value_row;
    void* memory = aligned_alloc(64, sizeof(Tile) + sizeof(Cell) * (key_cells + value_cells));
    if (memory == nullptr) return 1;
    Tile& tile = *static_cast<Tile*>(memory);
    Cell* keys = reinterpret_cast<Cell*>(&tile + 1);
    Cell* values = keys + key_cells;
    alignas(64) float value_scales[kMaxHeadDim + 2 * kLanes];
    int group = a.heads / a.kv_heads;
#ifdef __AMX_BF16__
    TileShapes shapes;
    _tile_loadconfig(&shapes);
#endif
    for (int s = 0; s < a.sequences; s++) {
        int64_t first_query = a.query_starts[s], first_key = a.key_starts[s];
        int queries = int(a.query_starts[s + 1] - first_query), count = int(a.key_starts[s + 1] - first_key);
        for (int kv = 0; kv < a.kv_heads; kv++) {
            int64_t key = first_key * a.k_row + kv * a.k_head, value = first_key * a.v_row + kv * a.v_head;
            float key_scale = copy_keys({a.k, bool(a.qk_bfloat16), key, a.k_row, count, a.head_dim}, depth, keys);
            HeadRows value_rows{a.v, bool(a.v_bfloat16), value, a.v_row, count, a.head_dim};
            copy_values(value_rows, width, value_row, values, value_scales);
            for (int index = kv * group; index < (kv + 1) * group; index++) {
                int64_t query = first_query * a.q_row + index * a.q_head;
                HeadRows rows{a.q, bool(a.qk_bfloat16), query, a.q_row, queries, a.head_dim};
                int64_t out = first_query * a.out_row + int64_t(index) * a.head_dim;
                Head head{rows, keys, values, key_scale, value_scales, count, depth, width, value_row, out};
                for (int first = 0; first < queries; first += kPanel) {
                    int left = queries - first;
                    left > kLanes ? attend<2>(a, head, first, left < kPanel ? left : kPanel, tile)
                                  : attend<1>(a, head, first, left, tile);
                }
            }
        }
    }
#ifdef __AMX_BF16__
    _tile_release();
#endif
    free(memory);
    return 0;
}
