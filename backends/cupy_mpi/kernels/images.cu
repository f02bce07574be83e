/* Where an element is: i counts the elements of [outer, depth, height, width, inner]. */
struct Place {
    int outer, depth, height, width, inner;
    __device__ Place(unsigned i, int depths, int heights, int widths, int inners, i64 by_depth, i64 by_height,
                     i64 by_width, i64 by_inner)
    {
        unsigned rest = quotient(i, by_inner);
        inner = i - rest * inners;
        i = rest, rest = quotient(i, by_width), width = i - rest * widths;
        i = rest, rest = quotient(i, by_height), height = i - rest * heights;
        i = rest, rest = quotient(i, by_depth), depth = i - rest * depths;
        outer = rest;
    }
};

#define DIVISORS i64 by_depth, i64 by_height, i64 by_width, i64 by_inner
