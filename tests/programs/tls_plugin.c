// tls_plugin.c - a shared library with thread-local variables, built once for each TLS model.
// Guarantee: plugin_value() is the calling thread's own variable, preset to 1234 in each thread.
// Loaded by dlopen_tls.c after threads exist; WEFT_TLS_MODEL is set by CMakeLists.txt.
// SPDX-License-Identifier: Apache-2.0

static __thread __attribute__((tls_model(WEFT_TLS_MODEL))) int value = 1234;
static __thread __attribute__((tls_model(WEFT_TLS_MODEL))) char padding[40];

int* plugin_value(void);
int* plugin_value(void) {
  padding[0] = 1;
  return &value;
}
