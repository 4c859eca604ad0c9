// The C interface of the kernels: chooses the instruction set of a call, and splits the call between threads.

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "norm_rotary.h"
#include "thread_pool.h"

#define PUBLIC extern "C" __attribute__((visibility("default")))

// Incremented with every change of the interface; library.py checks it.
constexpr int kAbi = 13;

namespace {

enum AttentionLevel { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmxBf16 };
enum LinearLevel { kAvx2Vnni = 1, kVnni, kVnniBf16, kAmx };

// Cores for computing, threads that compute at present, and whether this thread is one of them.
std::atomic<int> cores{1}, computing{0};
thread_local bool computes = false;

// Never destroyed: the helpers run until the process ends.
HelperPool& helper_pool() {
    static HelperPool* pool = new HelperPool;
    return *pool;
}

// Multiply-adds of a part, about 20 microseconds; waking a thread for fewer does not pay.
constexpr int64_t kMinPartWork = 1 << 21;
constexpr int kMinPartRows = 24;  // of a linear layer, since each part reads all weights

// Number of parts for a call with at most `max_parts` and `work` multiply-adds.
int part_count(int64_t max_parts, int64_t work) {
    int64_t share = computes ? cores / std::max(int(computing), 1) : 1;
    return int(std::max(std::min({max_parts, work / kMinPartWork, share}), int64_t(1)));
}

// Call part(begin, end) for `count` equal parts of [0, size), on as many threads. Returns 1 if one of them does.
template <class Part>
int split(int count, int64_t size, const Part& part) {
    if (count == 1) return part(0, int(size));
    struct Work {
        int64_t count, size;
        const Part& part;
        std::atomic<int> failed;
    } work{count, size, part, 0};
    auto one = [](void* state, int i) {
        Work& w = *static_cast<Work*>(state);
        w.failed |= w.part(int(w.size * i / w.count), int(w.size * (i + 1) / w.count));
    };
    helper_pool().run(count, one, &work);
    return work.failed;
}

template <class Element>
Element* advance(Element* data, bool bfloat16, int64_t elements) {
    return data == nullptr ? data : (Element*)((const char*)data + elements * (bfloat16 ? 2 : 4));
}

int attention(const AttentionArguments& a, int level) {
#ifdef __x86_64__
    // A float32 v asks for float32 precision.
    if (level >= kAmxBf16 && a.v_bfloat16) return attention_amx(a);
    if (level >= kAvx512Bf16 && a.v_bfloat16) return attention_avx512_bf16(a);
    if (level >= kAvx512Vnni && a.v_bfloat16) return attention_avx512_vnni(a);
    if (level >= kAvx512) return attention_avx512(a);
    if (level >= kAvx2) return attention_avx2(a);
#endif
    return attention_portable(a);
}

#ifdef __x86_64__
// Whether the processor has AMX for bfloat16 and int8 and Linux permits this process to use it, which has to be requested once.
bool has_tiles() {
    unsigned a, b, c, d;
    constexpr unsigned kBfloat16 = 1 << 22, kTiles = 1 << 24, kInt8 = 1 << 25, kAll = kBfloat16 | kTiles | kInt8;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAll) != kAll) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

int norm_rotary(const NormRotaryArguments& a, int level) {
#ifdef __x86_64__
    if (level >= kAvx512) return norm_rotary_avx512(a);
    if (level >= kAvx2) return norm_rotary_avx2(a);
#endif
    return norm_rotary_portable(a);
}

// Of a core's L2 cache; where the system does not say, that of most processors.
int64_t l2_cache_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
    static const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (size > 0) return size;
#endif
    return 1 << 20;
}

int linear(const LinearArguments& a, int level) {
    int64_t l2_bytes = l2_cache_bytes();
    if (a.dtype == kFloat32) {
#ifdef __x86_64__
        if (level >= kAvx512) return linear_float32_avx512(a, l2_bytes);
        if (level >= kAvx2) return linear_float32_avx2(a, l2_bytes);
#endif
        return linear_float32_portable(a, l2_bytes);
    }
#ifdef __x86_64__
    if (level >= kAmx) return linear_amx(a, l2_bytes);
    if (level >= kVnniBf16) return linear_avx512_vnni_bf16(a, l2_bytes);
    return level >= kVnni ? linear_avx512_vnni(a, l2_bytes) : linear_avx2_vnni(a, l2_bytes);
#else
    return 1;  // unreachable: `sie_linear_level()` is 0
#endif
}

}  // namespace

PUBLIC int sie_abi() { return kAbi; }

// Share `count` cores evenly between the threads that compute; if those are fewer, helpers take parts of their calls.
// Results do not depend on it.
PUBLIC void sie_use_cores(int count) {
    cores = count;
    helper_pool().grow(count - 1);
}

// Count this thread among the threads that compute, or no longer.
PUBLIC void sie_compute(int active) {
    if (computes == bool(active)) return;
    computes = active;
    computing += active ? 1 : -1;
}

// Highest level of attention that this processor supports.
PUBLIC int sie_attention_level() {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return !__builtin_cpu_supports("avx512vnni") ? kAvx512
               : !__builtin_cpu_supports("avx512bf16") ? kAvx512Vnni
               : has_tiles() ? kAmxBf16 : kAvx512Bf16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
    return kPortable;
}

// Whether attention by AVX512-BF16 is not slower than by AVX512-VNNI, as it is on processors that issue VDPBF16PS at
// half the rate of FMA or less. Measured once; needs kAvx512Bf16.
PUBLIC int sie_fast_bfloat16_attention() {
#ifdef __x86_64__
    static const bool fast = [] {
        constexpr int kTokens = 64, kWidth = 64, kTurns = 8;
        std::vector<uint16_t> values(kTokens * kWidth, 0x3f80), out(kTokens * kWidth);
        int32_t starts[] = {0, kTokens};
        AttentionArguments a{};
        a.q = a.k = a.v = values.data();
        a.out = out.data();
        a.query_starts = a.key_starts = starts;
        a.q_row = a.k_row = a.v_row = a.out_row = kWidth;
        a.sequences = a.heads = a.kv_heads = a.qk_bfloat16 = a.v_bfloat16 = 1;
        a.head_dim = kWidth;
        a.window = -1;
        a.scale = 1;
        auto best = std::chrono::nanoseconds::max(), best_integers = best;
        for (int turn = 0; turn < kTurns; turn++) {
            auto started = std::chrono::steady_clock::now();
            attention_avx512_bf16(a);
            auto between = std::chrono::steady_clock::now();
            attention_avx512_vnni(a);
            best = std::min<std::chrono::nanoseconds>(best, between - started);
            auto ended = std::chrono::steady_clock::now();
            best_integers = std::min<std::chrono::nanoseconds>(best_integers, ended - between);
        }
        // By a clear margin, so that equal machines agree.
        return best.count() * 100 < best_integers.count() * 115;
    }();
    return fast;
#else
    return 0;
#endif
}

// Returns 0, or 1 if memory can't be allocated. `level` is at most `sie_attention_level()`.
PUBLIC int sie_attention(const AttentionArguments* arguments, int level) {
    const AttentionArguments& a = *arguments;
    int group = a.heads / a.kv_heads;
    // An estimate: every query attends to the average number of keys.
    int64_t queries = a.query_starts[a.sequences] - a.query_starts[0];
    int64_t keys = a.key_starts[a.sequences] - a.key_starts[0];
    int64_t visible = keys / std::max(a.sequences, 1);
    if (a.window >= 0) visible = std::min(visible, int64_t(2) * a.window + 1);
    int64_t work = 2 * queries * visible * a.heads * a.head_dim;
    return split(part_count(a.kv_heads, work), a.kv_heads, [&](int begin, int end) {
        AttentionArguments part = a;
        part.q = advance(a.q, a.qk_bfloat16, begin * group * a.q_head);
        part.k = advance(a.k, a.qk_bfloat16, begin * a.k_head);
        part.v = advance(a.v, a.v_bfloat16, begin * a.v_head);
        part.out = advance(a.out, a.v_bfloat16, int64_t(begin) * group * a.head_dim);
        part.heads = (end - begin) * group;
        part.kv_heads = end - begin;
        return attention(part, level);
    });
}

// Norms and rotation; `level` and result as for `sie_attention`.
PUBLIC int sie_norm_rotary(const NormRotaryArguments* arguments, int level) {
    const NormRotaryArguments& a = *arguments;
    int64_t row = int64_t(a.heads) * a.width;
    return split(part_count(a.rows, a.rows * row * 16), a.rows, [&](int begin, int end) {
        NormRotaryArguments part = a;
        part.x = advance(a.x, a.x_bfloat16, begin * a.x_row);
        part.y = advance(a.y, a.y_bfloat16, begin * row);
        part.cos = advance(a.cos, false, int64_t(begin) * a.width);
        part.sin = advance(a.sin, false, int64_t(begin) * a.width);
        part.rows = end - begin;
        return norm_rotary(part, level);
    });
}

// The highest level of linear layers besides float32 that this processor supports, up to `max_level`: 0 none, 1 int8 by
// AVX-VNNI, 2 by AVX512-VNNI, 3 bfloat16 too, 4 both by AMX.
PUBLIC int sie_linear_level(int max_level) {
#ifdef __x86_64__
    int level = sie_attention_level(), supported = 0;
    unsigned a, b, c, d;
    constexpr unsigned kAvxVnni = 1 << 4;
    if (level >= kAvx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & kAvxVnni) supported = kAvx2Vnni;
    if (level >= kAvx512 && max_level >= kVnni && __builtin_cpu_supports("avx512vnni"))
        supported = level < kAvx512Bf16 ? kVnni : level < kAmxBf16 ? kVnniBf16 : kAmx;
    return std::min(supported, max_level);
#else
    return 0;
#endif
}

// Columns of a panel of float32 weights.
PUBLIC int sie_float32_columns(int level) { return level >= kAvx512 ? 32 : level >= kAvx2 ? 16 : 8; }

// Pack `weights` [rows, in] into panels [rows / columns, in, columns], padded with zeros.
PUBLIC void sie_pack_float32_panels(const float* weights, int64_t rows, int64_t in, float* panels, int level) {
#ifdef __x86_64__
    if (level >= kAvx512) return pack_float32_panels_avx512(weights, rows, in, panels);
    if (level >= kAvx2) return pack_float32_panels_avx2(weights, rows, in, panels);
#endif
    pack_float32_panels_portable(weights, rows, in, panels);
}

// Returns 0, or 1 if memory can't be allocated. `level` for float32: at most `sie_attention_level()`. Otherwise at
// least 1, for bfloat16 3, and at most `sie_linear_level`.
PUBLIC int sie_linear(const LinearArguments* arguments, int level) {
    const LinearArguments& a = *arguments;
    int64_t work = int64_t(a.rows) * a.in * (a.gated ? 2 * a.out : a.out);
    return split(part_count(a.rows / kMinPartRows, work), a.rows, [&](int begin, int end) {
        LinearArguments part = a;
        part.x = advance(a.x, a.x_bfloat16, begin * a.x_row);
        part.residual = advance(a.residual, false, begin * a.residual_row);
        part.y = advance(a.y, a.y_bfloat16, begin * a.y_row);
        part.rows = end - begin;
        return linear(part, level);
    });
}
