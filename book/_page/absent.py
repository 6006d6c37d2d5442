"""What the page leaves out of Triton's language, by name, with the reason that a kernel is told."""

_GROUPS = {
    "use float16, bfloat16 or float32": "float8e4nv float8e5 float8e4b15 float8e4b8 float8e5b16 dot_scaled",
    "of the atomics this editor has tl.atomic_add": """atomic_and atomic_cas atomic_load atomic_max atomic_min atomic_or
    atomic_poll atomic_store atomic_xchg atomic_xor""",
    "add offsets to the pointer, and mask what lies outside": """advance load_tensor_descriptor make_block_ptr
    make_tensor_descriptor pointer_type store_tensor_descriptor tensor_descriptor""",
    "give the kernel a tensor of random numbers": """pair_uniform_to_normal philox philox_impl rand rand4x randint
    randint4x randn randn4x uint_to_uniform_float""",
    "kernels are not compiled here, and one program runs after another": """condition debug_barrier
    inline_asm_elementwise map_elementwise swizzle2d""",
    "no kernel of this book asks for it": """PropagateNan add bitonic_merge cat cos cumprod div_rn erf extra fdiv flip
    histogram mul ravel reduce_or sin slice softmax sqrt_rn squeeze sub topk umulhi unsqueeze xor_sum""",
}
ABSENT = {name: why for why, names in _GROUPS.items() for name in names.split()}
# Of what torch and its tensors have not.
HOST = "here tensors are computed with by kernels only; JupyterLab has all of PyTorch"
