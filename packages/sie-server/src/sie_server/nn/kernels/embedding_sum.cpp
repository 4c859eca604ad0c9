// The sum of a token's embeddings in float32, table after table, and no sum for rows that a table does not have.

#include "embedding_sum.h"

#include <cstring>

namespace {

template <class Add>
void each(const EmbeddingTable& table, int64_t row, int width, const Add& add) {
    if (!table.bfloat16) {
        const float* from = static_cast<const float*>(table.weights) + row * width;
        for (int i = 0; i < width; i++) add(i, from[i]);
        return;
    }
    const uint16_t* from = static_cast<const uint16_t*>(table.weights) + row * width;
    for (int i = 0; i < width; i++) {
        uint32_t bits = uint32_t(from[i]) << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        add(i, value);
    }
}

}  // namespace

// Returns 0, or 1 if a token's row is not in its table.
extern "C" __attribute__((visibility("default"))) int sie_embedding_sum(const EmbeddingSumArguments* arguments) {
    const EmbeddingSumArguments& a = *arguments;
    for (int sequence = 0; sequence < a.sequences; sequence++) {
        for (int token = a.starts[sequence]; token < a.starts[sequence + 1]; token++) {
            float* y = a.y + int64_t(token) * a.width;
            for (int i = 0; i < a.table_count; i++) {
                const EmbeddingTable& table = a.tables[i];
                int64_t row = table.rows == nullptr ? token - a.starts[sequence] : table.rows[token];
                if (row < 0 || row >= table.count) return 1;
                if (i == 0)
                    each(table, row, a.width, [&](int j, float value) { y[j] = value; });
                else
                    each(table, row, a.width, [&](int j, float value) { y[j] += value; });
            }
        }
    }
    return 0;
}
