// Golden values of ggml's block formats: how well its encoders do on fixed rows, what its decoders make of
// fixed bytes, and how its CPU backend rounds activations. Built and run by ggml_golden.sh.
//
// Usage: ggml_golden MODEL.safetensors OUT_DIR. Writes, all numbers little-endian:
//   rows.f16        3 distributions (gaussian, laplace, weights) x ROWS rows x COLUMNS values
//   importance.f16  COLUMNS values
//   figures.txt     lines "TYPE DISTRIBUTION plain|importance MEAN", MEAN = sum of w (x - y)^2 over all values,
//                   divided by their number; w = 1 where plain
//   blocks/TYPE.bytes, blocks/TYPE.f32     whole blocks and their decoded values
//   activations/FORMAT.f32                 what is left of rows FIRST_ACTIVATION.. of each distribution

#include "ggml-cpu.h"
#include "ggml.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 512, ROWS = 32, DISTRIBUTIONS = 3, VALUES = ROWS * COLUMNS, ACTIVATION_ROWS = 2 };

static const char * DISTRIBUTION_NAMES[DISTRIBUTIONS] = { "gaussian", "laplace", "weights" };

static const struct { const char * name; enum ggml_type type; } TYPES[] = {
    { "f32", GGML_TYPE_F32 },       { "f16", GGML_TYPE_F16 },   { "bf16", GGML_TYPE_BF16 },
    { "q8_0", GGML_TYPE_Q8_0 },     { "q4_0", GGML_TYPE_Q4_0 }, { "q4_1", GGML_TYPE_Q4_1 },
    { "q5_0", GGML_TYPE_Q5_0 },     { "q5_1", GGML_TYPE_Q5_1 }, { "q2_k", GGML_TYPE_Q2_K },
    { "q3_k", GGML_TYPE_Q3_K },     { "q4_k", GGML_TYPE_Q4_K }, { "q5_k", GGML_TYPE_Q5_K },
    { "q6_k", GGML_TYPE_Q6_K },     { "iq4_nl", GGML_TYPE_IQ4_NL }, { "iq4_xs", GGML_TYPE_IQ4_XS },
};
enum { N_TYPES = sizeof TYPES / sizeof TYPES[0] };

static void die(const char * what) {
    fprintf(stderr, "ggml_golden: %s\n", what);
    exit(1);
}

// ------------------------------------------------------------------------------------------- numbers

static uint64_t state = 20240229;

static uint64_t next_bits(void) { // xorshift64*
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1DULL;
}

static double uniform(void) { return ((double) (next_bits() >> 11) + 0.5) / 9007199254740992.0; }

static double gaussian(void) { return sqrt(-2.0 * log(uniform())) * cos(6.283185307179586 * uniform()); }

static double laplace(void) {
    const double u = uniform() - 0.5;
    return (u < 0 ? 1.0 : -1.0) * log(1.0 - 2.0 * fabs(u)) / sqrt(2.0);
}

// --------------------------------------------------------------------------------------------- files

static FILE * create(const char * dir, const char * name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE * f = fopen(path, "wb");
    if (!f) die(path);
    return f;
}

static void write_file(const char * dir, const char * name, const void * data, size_t bytes) {
    FILE * f = create(dir, name);
    if (fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0) die(name);
}

// Copies `n` F16 values from the start of tensor `name`.
static void read_tensor(const char * path, const char * name, size_t n, float * out) {
    FILE * f = fopen(path, "rb");
    uint64_t header_bytes;
    if (!f || fread(&header_bytes, 8, 1, f) != 1 || header_bytes > 1 << 20) die(path);
    char * header = calloc(header_bytes + 1, 1);
    if (fread(header, 1, header_bytes, f) != header_bytes) die(path);
    char key[256];
    snprintf(key, sizeof key, "\"%s\"", name);
    const char * entry = strstr(header, key);
    const char * offsets = entry ? strstr(entry, "data_offsets") : NULL;
    unsigned long begin;
    if (!offsets || sscanf(strchr(offsets, '['), "[%lu", &begin) != 1) die(name);
    ggml_fp16_t * halves = malloc(2 * n);
    if (fseek(f, (long) (8 + header_bytes + begin), SEEK_SET) != 0 || fread(halves, 2, n, f) != n) die(name);
    ggml_fp16_to_fp32_row(halves, out, (int64_t) n);
    free(halves);
    free(header);
    fclose(f);
}

// ------------------------------------------------------------------------------------------- figures

static double mean_error(const float * x, const float * y, const float * importance) {
    double sum = 0;
    for (int i = 0; i < VALUES; i++) {
        const double difference = (double) x[i] - (double) y[i];
        sum += difference * difference * (importance ? (double) importance[i % COLUMNS] : 1.0);
    }
    return sum / VALUES;
}

static void decode(enum ggml_type type, const void * bytes, float * out, int64_t n) {
    if (type == GGML_TYPE_F32) {
        memcpy(out, bytes, 4 * (size_t) n);
    } else {
        ggml_get_type_traits(type)->to_float(bytes, out, n);
    }
}

static void write_figures(const char * dir, float rows[DISTRIBUTIONS][VALUES], const float * importance) {
    FILE * f = create(dir, "figures.txt");
    static uint8_t bytes[4 * VALUES];
    static float decoded[VALUES];
    for (int t = 0; t < N_TYPES; t++) {
        for (int d = 0; d < DISTRIBUTIONS; d++) {
            for (int weighted = 0; weighted < 2; weighted++) {
                const float * w = weighted ? importance : NULL;
                ggml_quantize_chunk(TYPES[t].type, rows[d], bytes, 0, ROWS, COLUMNS, w);
                decode(TYPES[t].type, bytes, decoded, VALUES);
                fprintf(f, "%s %s %s %.17g\n", TYPES[t].name, DISTRIBUTION_NAMES[d],
                        weighted ? "importance" : "plain", mean_error(rows[d], decoded, w));
            }
        }
    }
    if (fclose(f) != 0) die("figures.txt");
}

// -------------------------------------------------------------------------------------------- blocks

// Where a type keeps its f16 scales; -1 for none.
static void scale_positions(enum ggml_type type, int at[2]) {
    at[0] = at[1] = -1;
    switch (type) {
        case GGML_TYPE_F32: case GGML_TYPE_F16: case GGML_TYPE_BF16: break;
        case GGML_TYPE_Q4_1: case GGML_TYPE_Q5_1: case GGML_TYPE_Q4_K: case GGML_TYPE_Q5_K: at[0] = 0; at[1] = 2; break;
        case GGML_TYPE_Q2_K: at[0] = 80; at[1] = 82; break;
        case GGML_TYPE_Q3_K: at[0] = 108; break;
        case GGML_TYPE_Q6_K: at[0] = 208; break;
        default: at[0] = 0; break;
    }
}

static void write_blocks(const char * dir) {
    // 0.0123, -1.5, largest, smallest normal, smallest subnormal, 0, -0, -largest: as f16
    static const uint16_t scales[8] = { 0x224c, 0xbe00, 0x7bff, 0x0400, 0x0001, 0x0000, 0x8000, 0xfbff };
    static uint8_t bytes[8 * 256];
    static float decoded[8 * 256];
    for (int t = 0; t < N_TYPES; t++) {
        const size_t block_bytes = ggml_type_size(TYPES[t].type);
        const int64_t block = ggml_blck_size(TYPES[t].type);
        const int blocks = block == 1 ? 64 : 8;
        for (size_t i = 0; i < blocks * block_bytes; i++) bytes[i] = (uint8_t) (next_bits() >> 56);
        int at[2];
        scale_positions(TYPES[t].type, at);
        for (int b = 0; b < blocks; b++) {
            for (int s = 0; s < 2; s++) {
                if (at[s] < 0) continue;
                // The second scale runs through the list at another pace, so that pairs vary.
                memcpy(bytes + b * block_bytes + at[s], &scales[s ? (3 * b + 1) % 8 : b], 2);
            }
            if (block == 1) { // keep plain values finite
                uint8_t * top = bytes + (b + 1) * block_bytes - 1;
                *top &= 0xbb;
            }
        }
        decode(TYPES[t].type, bytes, decoded, blocks * block);
        char name[64];
        snprintf(name, sizeof name, "blocks/%s.bytes", TYPES[t].name);
        write_file(dir, name, bytes, blocks * block_bytes);
        snprintf(name, sizeof name, "blocks/%s.f32", TYPES[t].name);
        write_file(dir, name, decoded, 4 * (size_t) (blocks * block));
    }
}

// --------------------------------------------------------------------------------------- activations

static void write_activations(const char * dir, float rows[DISTRIBUTIONS][VALUES]) {
    enum { N = ACTIVATION_ROWS * COLUMNS * DISTRIBUTIONS };
    static float x[N], y[N];
    static uint8_t bytes[8 * N];
    for (int d = 0; d < DISTRIBUTIONS; d++) {
        memcpy(x + d * ACTIVATION_ROWS * COLUMNS, rows[d], 4 * ACTIVATION_ROWS * COLUMNS);
    }
    for (int i = 0; i < 256; i++) x[i] = 0; // a block of zeros in every format
    static const struct { const char * name; enum ggml_type type; } formats[] = {
        { "f16", GGML_TYPE_F16 }, { "bf16", GGML_TYPE_BF16 }, { "q8_0", GGML_TYPE_Q8_0 },
        { "q8_1", GGML_TYPE_Q8_1 }, { "q8_k", GGML_TYPE_Q8_K },
    };
    write_file(dir, "activations/f32.f32", x, sizeof x);
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        const enum ggml_type type = formats[f].type;
        ggml_get_type_traits_cpu(type)->from_float(x, bytes, N);
        if (type == GGML_TYPE_Q8_1 || type == GGML_TYPE_Q8_K) { // ggml has no decoder for these
            const int block = type == GGML_TYPE_Q8_1 ? 32 : 256, head = 4;
            for (int i = 0; i < N; i++) {
                const uint8_t * b = bytes + (i / block) * ggml_type_size(type);
                float scale;
                memcpy(&scale, b, 4);
                if (type == GGML_TYPE_Q8_1) {
                    ggml_fp16_t half;
                    memcpy(&half, b, 2);
                    scale = ggml_fp16_to_fp32(half);
                }
                y[i] = scale * (float) (int8_t) b[head + i % block];
            }
        } else {
            decode(type, bytes, y, N);
        }
        char name[64];
        snprintf(name, sizeof name, "activations/%s.f32", formats[f].name);
        write_file(dir, name, y, sizeof y);
    }
}

int main(int argc, char ** argv) {
    if (argc != 3) die("usage: ggml_golden MODEL.safetensors OUT_DIR");
    const char * model = argv[1], * dir = argv[2];
    ggml_cpu_init();

    static float rows[DISTRIBUTIONS][VALUES];
    static ggml_fp16_t halves[DISTRIBUTIONS * VALUES];
    for (int i = 0; i < VALUES; i++) rows[0][i] = (float) (0.02 * gaussian());
    for (int i = 0; i < VALUES; i++) rows[1][i] = (float) (0.02 * laplace());
    static const char * tensors[4] = {
        "model.layers.0.mlp.down_proj.weight", "model.layers.3.mlp.gate_proj.weight",
        "model.layers.1.self_attn.q_proj.weight", "model.embed_tokens.weight",
    };
    for (int i = 0; i < 4; i++) read_tensor(model, tensors[i], VALUES / 4, rows[2] + i * VALUES / 4);
    ggml_fp32_to_fp16_row(rows[0], halves, DISTRIBUTIONS * VALUES);
    ggml_fp16_to_fp32_row(halves, rows[0], DISTRIBUTIONS * VALUES);
    write_file(dir, "rows.f16", halves, sizeof halves);

    float importance[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) importance[i] = (float) exp(1.5 * gaussian());
    ggml_fp32_to_fp16_row(importance, halves, COLUMNS);
    ggml_fp16_to_fp32_row(halves, importance, COLUMNS);
    write_file(dir, "importance.f16", halves, 2 * COLUMNS);

    write_figures(dir, rows, importance);
    write_blocks(dir);
    write_activations(dir, rows);
    return 0;
}
