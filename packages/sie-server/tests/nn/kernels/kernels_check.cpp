// Compares the kernels with sums in double precision, and every row and sequence with itself computed alone, bit for
// bit. For processors that this machine is not: test_architectures.py runs it in an emulator.
//
// Usage: kernels_check LEVEL, as for `sie_attention`. Prints what differs, and exits with 1 if anything does.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "norm_rotary.h"

extern "C" {
void sie_use_cores(int);
void sie_compute(int);
int sie_attention_level();
int sie_attention(const AttentionArguments*, int);
int sie_norm_rotary(const NormRotaryArguments*, int);
int sie_float32_columns(int);
void sie_pack_float32_panels(const float*, int64_t, int64_t, float*, int);
int sie_linear(const LinearArguments*, int);
}

namespace {

int failures = 0, checks = 0, level = 0;

void expect(bool holds, const char* what, int a, int b, int c) {
    checks++;
    if (holds) return;
    failures++;
    std::printf("%s differs: %d, %d, %d\n", what, a, b, c);
}

uint32_t state = 1;

// Between -1 and 1.
float uniform() {
    state = state * 1664525u + 1013904223u;
    return float(int32_t(state)) * 0x1p-31f;
}

// Numbers as float32 or bfloat16, with those that the kernel is to see in `value`.
struct Numbers {
    std::vector<float> value;
    std::vector<uint16_t> half;
    bool bfloat16;

    Numbers(size_t size, bool bfloat16_) : value(size), half(size), bfloat16(bfloat16_) {
        for (size_t i = 0; i < size; i++) {
            value[i] = uniform();
            uint32_t bits;
            std::memcpy(&bits, &value[i], 4);
            half[i] = uint16_t(bits >> 16);
            bits &= 0xffff0000;
            if (bfloat16) std::memcpy(&value[i], &bits, 4);
        }
    }

    const void* at(int64_t element) const {
        return bfloat16 ? static_cast<const void*>(half.data() + element) : value.data() + element;
    }
};

float read(const std::vector<unsigned char>& y, size_t i, bool bfloat16) {
    uint32_t bits;
    if (!bfloat16) {
        std::memcpy(&bits, &y[4 * i], 4);
    } else {
        uint16_t half;
        std::memcpy(&half, &y[2 * i], 2);
        bits = uint32_t(half) << 16;
    }
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

bool near(double got, double expected, double size, bool bfloat16) {
    return std::fabs(got - expected) <= (bfloat16 ? 0.01 : 1e-5) * (1 + size);
}

double activated(int activation, double y) {
    if (activation == kErf) return y * 0.5 * (1 + std::erf(y / std::sqrt(2.0)));
    return activation == kCurve ? y / (1 + std::exp(-y)) : y;
}

void check_linear(int rows, int in, int out, int activation, bool gated, bool with_residual, bool bfloat16) {
    int columns = sie_float32_columns(level), side = gated ? columns / 2 : columns;
    int panels = (out + side - 1) / side;
    Numbers x(size_t(rows) * in, bfloat16);
    // Row `panels · columns` of the weights in the order of the panels; with a gate, half of each panel's from either.
    std::vector<float> weights(size_t(panels) * columns * in), bias(size_t(panels) * columns), residual(rows * out);
    for (float& w : weights) w = uniform();
    for (float& b : bias) b = uniform();
    for (float& r : residual) r = uniform();
    size_t packed = weights.size() * sizeof(float);
    float* packed_weights = static_cast<float*>(std::aligned_alloc(64, (packed + 63) / 64 * 64));
    sie_pack_float32_panels(weights.data(), int64_t(panels) * columns, in, packed_weights, level);

    std::vector<float> y(size_t(rows) * out), alone(out);
    LinearArguments a{};
    a.x = x.at(0), a.weights = packed_weights, a.bias = activation == kNone ? nullptr : bias.data();
    a.residual = with_residual ? residual.data() : nullptr;
    a.y = y.data(), a.x_row = in, a.residual_row = a.y_row = out;
    a.rows = rows, a.in = in, a.out = out, a.panels = panels;
    a.dtype = kFloat32, a.x_bfloat16 = bfloat16, a.activation = activation, a.gated = gated;
    a.slope[0] = -float(M_LOG2E), a.limit = INFINITY;  // SiLU
    expect(sie_linear(&a, level) == 0, "the status of a linear layer", rows, in, out);

    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < out; c++) {
            double size = 0;
            auto product = [&](int column) {
                double sum = a.bias ? bias[column] : 0;
                for (int i = 0; i < in; i++) {
                    double term = double(x.value[size_t(r) * in + i]) * weights[size_t(column) * in + i];
                    sum += term;
                    size += std::fabs(term);
                }
                return sum;
            };
            int column = c / side * columns + c % side;
            double expected = activated(activation, product(column));
            if (gated) expected *= product(column + side);
            if (with_residual) expected += residual[size_t(r) * out + c];
            expect(near(y[size_t(r) * out + c], expected, size, false), "a linear layer", r, c, in);
        }
        LinearArguments one = a;
        one.x = x.at(int64_t(r) * in), one.y = alone.data(), one.rows = 1;
        one.residual = with_residual ? residual.data() + size_t(r) * out : nullptr;
        sie_linear(&one, level);
        expect(std::memcmp(alone.data(), &y[size_t(r) * out], 4 * out) == 0, "a row alone", r, in, out);
    }
    std::free(packed_weights);
}

void check_attention(std::vector<int> lengths, int heads, int kv_heads, int head_dim, int window, bool causal,
                     bool bfloat16) {
    std::vector<int32_t> starts{0};
    for (int length : lengths) starts.push_back(starts.back() + length);
    int tokens = starts.back();
    int64_t row = int64_t(heads) * head_dim, kv_row = int64_t(kv_heads) * head_dim;
    Numbers q(tokens * row, bfloat16), k(tokens * kv_row, bfloat16), v(tokens * kv_row, bfloat16);
    size_t item = bfloat16 ? 2 : 4;
    std::vector<unsigned char> out(item * tokens * row), alone(out.size());
    AttentionArguments a{};
    a.q = q.at(0), a.k = k.at(0), a.v = v.at(0), a.out = out.data();
    a.query_starts = a.key_starts = starts.data();
    a.q_row = a.out_row = row, a.k_row = a.v_row = kv_row, a.q_head = a.k_head = a.v_head = head_dim;
    a.sequences = int(lengths.size()), a.heads = heads, a.kv_heads = kv_heads, a.head_dim = head_dim;
    a.window = window, a.causal = causal, a.qk_bfloat16 = a.v_bfloat16 = bfloat16;
    a.scale = 1 / std::sqrt(float(head_dim));
    expect(sie_attention(&a, level) == 0, "the status of attention", tokens, heads, head_dim);

    for (int s = 0; s < a.sequences; s++) {
        int first = starts[s], count = lengths[s];
        for (int i = 0; i < count; i++)
            for (int h = 0; h < heads; h++) {
                int kv = h / (heads / kv_heads);
                std::vector<double> weight(count, 0);
                double total = 0;
                for (int j = 0; j < count; j++) {
                    if ((window >= 0 && std::abs(i - j) > window) || (causal && j > i)) continue;
                    double logit = 0;
                    for (int d = 0; d < head_dim; d++)
                        logit += double(q.value[(first + i) * row + h * head_dim + d]) *
                                 k.value[(first + j) * kv_row + kv * head_dim + d];
                    total += weight[j] = std::exp(logit * a.scale);
                }
                for (int d = 0; d < head_dim; d++) {
                    double expected = 0;
                    for (int j = 0; j < count; j++)
                        expected += weight[j] / total * v.value[(first + j) * kv_row + kv * head_dim + d];
                    float got = read(out, (first + i) * row + h * head_dim + d, bfloat16);
                    expect(near(got, expected, 1, bfloat16), "attention", i, h, d);
                }
            }
        int32_t own[] = {0, count};
        AttentionArguments one = a;
        one.q = q.at(first * row), one.k = k.at(first * kv_row), one.v = v.at(first * kv_row), one.out = alone.data();
        one.query_starts = one.key_starts = own, one.sequences = 1;
        sie_attention(&one, level);
        expect(std::memcmp(alone.data(), &out[item * first * row], item * count * row) == 0, "a sequence alone", s,
               count, head_dim);
    }
}

void check_norm_rotary(int rows, int heads, int width, int kind, bool bfloat16) {
    enum { kLayerNorm, kRms, kRotation };
    int64_t row = int64_t(heads) * width;
    Numbers x(rows * row, bfloat16);
    std::vector<float> weight(width), bias(width), cosine(size_t(rows) * width), sine(cosine.size());
    for (int i = 0; i < width; i++) weight[i] = uniform(), bias[i] = uniform();
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < width; i++) {
            double angle = r / std::pow(100, i % (width / 2 + 1) * 2.0 / width);
            cosine[size_t(r) * width + i] = float(std::cos(angle)), sine[size_t(r) * width + i] = float(std::sin(angle));
        }
    bool y_bfloat16 = bfloat16 && kind == kRotation;
    std::vector<unsigned char> y((y_bfloat16 ? 2 : 4) * rows * row);
    NormRotaryArguments a{};
    a.x = x.at(0), a.y = y.data(), a.x_row = row, a.x_head = width;
    a.rows = rows, a.heads = heads, a.width = width, a.x_bfloat16 = bfloat16, a.y_bfloat16 = y_bfloat16;
    a.eps = 1e-5f, a.rms = kind == kRms;
    if (kind == kRotation)
        a.cos = cosine.data(), a.sin = sine.data();
    else
        a.weight = weight.data(), a.bias = kind == kLayerNorm ? bias.data() : nullptr;
    expect(sie_norm_rotary(&a, level) == 0, "the status of a norm", rows, heads, width);
    for (int64_t part = 0; part < int64_t(rows) * heads; part++) {
        const float* in = &x.value[part * width];
        double mean = 0, square = 0;
        for (int i = 0; i < width; i++) mean += kind == kLayerNorm ? double(in[i]) / width : 0;
        for (int i = 0; i < width; i++) square += (in[i] - mean) * (in[i] - mean) / width;
        for (int i = 0; i < width; i++) {
            double expected;
            if (kind == kRotation) {
                int half = width / 2;
                double other = i < half ? -in[i + half] : in[i - half];
                size_t at = part / heads * width + i;
                expected = in[i] * double(cosine[at]) + other * sine[at];
            } else {
                expected = (in[i] - mean) / std::sqrt(square + a.eps) * weight[i] + (a.bias ? bias[i] : 0);
            }
            float got = read(y, part * width + i, y_bfloat16);
            expect(near(got, expected, 4, y_bfloat16), "a norm or rotation", int(part), i, kind);
        }
    }
}

}  // namespace

int main(int, char** arguments) {
    level = std::atoi(arguments[1]);
    if (level > sie_attention_level()) {
        std::printf("this processor has no level %d\n", level);
        return 2;
    }
    for (int threads : {1, 3}) {
        sie_use_cores(threads);
        sie_compute(threads > 1);
        for (bool bfloat16 : {false, true}) {
            for (int rows : {1, 13, 27})
                for (int in : {1, 65, 300})
                    for (int out : {1, 40})
                        for (int activation : {kNone, kCurve, kErf})
                            check_linear(rows, in, out, activation, activation == kCurve, out > 1, bfloat16);
            for (int head_dim : {16, 33, 64})
                for (int window : {-1, 4})
                    check_attention({1, 40, 14}, 4, 2, head_dim, window, window < 0 && head_dim > 16, bfloat16);
            check_attention({3, 270}, 2, 1, 8, -1, threads > 1, bfloat16);  // more than one block of keys
            for (int width : {6, 64, 100})
                for (int kind : {0, 1, 2}) check_norm_rotary(5, 3, width, kind, bfloat16);
        }
        // Enough work for the helper threads.
        if (threads > 1) check_linear(120, 256, 200, kErf, false, true, false);
    }
    std::printf("%d of %d checks failed\n", failures, checks);
    return failures > 0;
}
