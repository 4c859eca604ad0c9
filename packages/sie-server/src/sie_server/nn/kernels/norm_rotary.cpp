// Norms and rotary positions for one instruction set, named by LEVEL and enabled by the compiler's flags. Computed in
// float32, row by row, with the row in the L1 cache.

#include "norm_rotary.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "vectors.h"

namespace {

template <int kStep, int... kLane>
inline Vec rotated(Vec x, std::integer_sequence<int, kLane...>) {
    return __builtin_shufflevector(x, x, ((kLane + kStep) % kLanes)...);
}

template <int kStep = kLanes / 2>
inline float total(Vec x) {
    if constexpr (kStep > 0)
        return total<kStep / 2>(x + rotated<kStep>(x, std::make_integer_sequence<int, kLanes>()));
    else
        return x[0];
}

void read(const NormRotaryArguments& a, int64_t element, float* to) {
    if (!a.x_bfloat16) {
        memcpy(to, static_cast<const float*>(a.x) + element, sizeof(float) * a.width);
        return;
    }
    const uint16_t* from = static_cast<const uint16_t*>(a.x) + element;
    uint32_t* bits = reinterpret_cast<uint32_t*>(to);
    for (int i = 0; i < a.width; i++) bits[i] = uint32_t(from[i]) << 16;
}

// Rounds to nearest, ties to even; NaN stays NaN.
void write(const NormRotaryArguments& a, int64_t element, const float* from) {
    if (!a.y_bfloat16) {
        memcpy(static_cast<float*>(a.y) + element, from, sizeof(float) * a.width);
        return;
    }
    uint16_t* to = static_cast<uint16_t*>(a.y) + element;
    const uint32_t* bits = reinterpret_cast<const uint32_t*>(from);
    for (int i = 0; i < a.width; i++) {
        uint32_t rounded = (bits[i] + 0x7fff + (bits[i] >> 16 & 1)) >> 16;
        to[i] = uint16_t((bits[i] & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
    }
}

constexpr int kChains = 4;  // independent sums, since one addition takes the time of several

inline float total(const Vec (&sums)[kChains]) { return total((sums[0] + sums[1]) + (sums[2] + sums[3])); }

// Normalize the row `x` to `y`, which may be the same. `z`: memory for a row.
void norm(const NormRotaryArguments& a, const float* x, float* z, float* y) {
    int whole = a.width / kLanes * kLanes, unrolled = whole / (kChains * kLanes) * (kChains * kLanes);
    float mean = 0;
    if (!a.rms) {
        Vec sums[kChains] = {};
        int i = 0;
        for (; i < unrolled; i += kChains * kLanes)
            for (int c = 0; c < kChains; c++) sums[c] += load(x + i + c * kLanes);
        for (; i < whole; i += kLanes) sums[0] += load(x + i);
        mean = total(sums);
        for (; i < a.width; i++) mean += x[i];
        mean /= a.width;
    }
    auto center = [&](int i) {
        Vec centered = load(x + i) - mean;
        store(z + i, centered);
        return centered * centered;
    };
    Vec squares[kChains] = {};
    int i = 0;
    for (; i < unrolled; i += kChains * kLanes)
        for (int c = 0; c < kChains; c++) squares[c] += center(i + c * kLanes);
    for (; i < whole; i += kLanes) squares[0] += center(i);
    float sum = total(squares);
    for (; i < a.width; i++) {
        z[i] = x[i] - mean;
        sum += z[i] * z[i];
    }
    float scale = 1 / std::sqrt(sum / a.width + a.eps);
    for (i = 0; i < whole; i += kLanes) {
        Vec scaled = load(z + i) * scale * load(a.weight + i);
        store(y + i, a.bias ? scaled + load(a.bias + i) : scaled);
    }
    for (; i < a.width; i++) {
        float scaled = z[i] * scale * a.weight[i];
        y[i] = a.bias ? scaled + a.bias[i] : scaled;
    }
}

// Rotate each pair (i, i + width / 2) by the angle of the row's position.
void rotate(const NormRotaryArguments& a, int row, float* z) {
    const float *cos = a.cos + int64_t(row) * a.width, *sin = a.sin + int64_t(row) * a.width;
    int half = a.width / 2;
    for (int i = 0; i < half; i++) {
        float first = z[i], second = z[i + half];
        z[i] = first * cos[i] - second * sin[i];
        z[i + half] = second * cos[i + half] + first * sin[i + half];
    }
}

}  // namespace

#define NAME(level) NAME_(level)
#define NAME_(level) norm_rotary_##level

int NAME(LEVEL)(const NormRotaryArguments& a) {
    float* z = static_cast<float*>(aligned_alloc(64, (sizeof(float) * a.width + 63) / 64 * 64));
    if (z == nullptr) return 1;
    for (int row = 0; row < a.rows; row++) {
        for (int head = 0; head < a.heads; head++) {
            int64_t from = row * a.x_row + head * a.x_head, to = (int64_t(row) * a.heads + head) * a.width;
            if (!a.cos && !a.x_bfloat16 && !a.y_bfloat16) {
                norm(a, static_cast<const float*>(a.x) + from, z, static_cast<float*>(a.y) + to);
                continue;
            }
            read(a, from, z);
            if (a.cos)
                rotate(a, row, z);
            else
                norm(a, z, z, z);
            write(a, to, z);
        }
    }
    free(z);
    return 0;
}
