// Products with weights that lie in tiles for AMX (amx/mmq.cpp), made with vectors, on the CPU.
//
// For AMX, quantized weights are unpacked into a tile and scaled again for each 32 rows, and 2 rows cost as much as 16.
// Here a vector of weights is unpacked once and multiplied with up to eight rows in turn (AVX-512 VNNI), while what
// comes next is on its way from memory. So a check's few rows cost little more than reading the weights; many are
// faster, too.
#pragma once

struct ggml_compute_params;
struct ggml_tensor;

// Computes GGML_OP_MUL_MAT of the AMX buffer type, whose rows were quantized into the work buffer; false, and nothing
// is done, where the weights are of a type that this file does not know.
bool alora_tiled_product(const ggml_compute_params * params, ggml_tensor * operation);
