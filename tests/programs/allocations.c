/* Stands before the C library's allocator: counts what is asked of it while somebody counts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static size_t least = 0, largest, total;
static long count;

void allocations_begin(size_t from) { largest = total = 0; count = 0; least = from; }
void allocations_end(size_t *found) { least = 0; found[0] = count; found[1] = total; found[2] = largest; }

static void note(size_t size)
{
    if (!least || size < least)
        return;
    __sync_fetch_and_add(&count, 1);
    __sync_fetch_and_add(&total, size);
    if (size > largest)
        largest = size;
}

void *malloc(size_t size) { note(size); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { note(n * size); return __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { note(size); return __libc_realloc(p, size); }
void *memalign(size_t to, size_t size) { note(size); return __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { note(size); return __libc_memalign(to, size); }
int posix_memalign(void **p, size_t to, size_t size)
{
    note(size);
    *p = __libc_memalign(to, size);
    return *p ? 0 : 12;
}
