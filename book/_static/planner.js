/* The planner (effattn_core/plans.py, plan_parts.py): the same formulas in the page, for planner-form.js.
   tests/book/test_planner.py holds the two together. Numbers are JavaScript's doubles: exact up to 2**53, 1e-16 beyond. */
(() => {
  "use strict";

  const BYTES = {float32: 4, float16: 2, bfloat16: 2, float8: 1, int4: 0.5};
  const MIXERS = ["softmax", "window", "retention", "yoco", "sparse"];
  const WHOLE = ["context", "batch", "data", "tensor", "sequence", "expert", "experts", "top_k", "window"];
  const SIZES = ["layers", "width", "heads", "key_value_heads", "head_dim", "feed_forward", "vocabulary"];
  const CHUNK = 256;
  const STATE = 4;
  const LARGEST = 2 ** 53;
  const half = (count) => Math.floor(count / 2);

  // ---- collectives: bytes that each of `count` devices sends ------------------------------------------------------

  const allReduce = (size, count) => 2 * (count - 1) / count * size;
  const allGather = (size, count) => (count - 1) / count * size;
  const allToAll = (size, count) => (count - 1) / count * size;

  // ---- what a device holds ----------------------------------------------------------------------------------------

  const products = (plan) => (plan.weights === "float32" ? "float32" : "bfloat16");
  const inner = (plan) => Math.floor(plan.model.feed_forward / plan.top_k);
  const texts = (plan) => plan.batch / (plan.data * plan.expert);

  function part({model, tensor}) {
    return {...model, heads: model.heads / tensor, key_value_heads: Math.max(1, Math.floor(model.key_value_heads / tensor)),
      feed_forward: Math.floor(model.feed_forward / tensor), vocabulary: Math.ceil(model.vocabulary / tensor)};
  }

  // Weights of the matrices: of one layer by what mixes its tokens, and of all.
  function layerMatrices(held, kind) {
    const head = held.width * held.head_dim;
    const feedForward = 3 * held.width * held.feed_forward;
    if (kind === "cross") return 2 * head * held.heads + feedForward;
    if (kind === "gated") return 5 * head * held.heads + held.width * held.heads + feedForward;
    return head * (2 * held.heads + 2 * held.key_value_heads) + feedForward;
  }

  const writer = (held) => 2 * held.width * held.key_value_heads * held.head_dim;

  function matrices(plan, held) {
    if (plan.mixer !== "yoco") return held.layers * layerMatrices(held, "grouped");
    const first = half(held.layers);
    return first * layerMatrices(held, "gated") + writer(held) + (held.layers - first) * layerMatrices(held, "cross");
  }

  const allFeedForward = (held) => 3 * held.layers * held.width * held.feed_forward;

  function layerOfExperts(plan, count) {
    return 3 * count * plan.model.width * inner(plan) / plan.tensor + plan.model.width * plan.experts;
  }

  function parameters(plan) {
    const held = part(plan);
    const norms = (2 * held.layers + 1 + (plan.mixer === "yoco" ? 1 : 0)) * held.width;
    const all = matrices(plan, held) + norms + (held.tied ? 1 : 2) * held.vocabulary * held.width;
    if (plan.experts === 1) return all;
    return all - allFeedForward(held) + held.layers * layerOfExperts(plan, plan.experts / plan.expert);
  }

  function cacheBytes(plan, held, tokens) {
    const numbers = 2 * texts(plan) * held.layers * held.key_value_heads * held.head_dim * tokens;
    return Math.trunc(numbers * BYTES[plan.cache]);
  }

  function kept(plan) {
    const held = part(plan);
    const states = texts(plan) * held.heads * held.head_dim ** 2 * STATE;
    if (plan.mixer === "yoco") {
      const row = 2 * texts(plan) * held.head_dim * BYTES[plan.cache];
      return {growing: row * held.key_value_heads * plan.context, constant: half(held.layers) * states};
    }
    if (plan.mixer === "retention") return {growing: 0, constant: held.layers * states};
    if (plan.mixer === "window") {
      return {growing: 0, constant: cacheBytes(plan, held, Math.min(plan.window, plan.context))};
    }
    return {growing: cacheBytes(plan, held, plan.context), constant: 0};
  }

  // ---- operations and bytes moved ---------------------------------------------------------------------------------

  function tokenFlops(plan) {
    const held = part(plan);
    if (plan.experts === 1) return 2 * matrices(plan, held);
    const layer = 6 * plan.top_k * held.width * inner(plan) / plan.tensor + 2 * held.width * plan.experts;
    return 2 * (matrices(plan, held) - allFeedForward(held)) + held.layers * layer;
  }

  function weightsRead(plan, tokens) {
    const held = part(plan);
    let read = matrices(plan, held);
    if (plan.experts > 1) {
      const touched = plan.experts * (1 - (1 - plan.top_k / plan.experts) ** tokens);
      read += held.layers * layerOfExperts(plan, touched / plan.expert) - allFeedForward(held);
    }
    return read * BYTES[plan.weights] + Math.trunc(held.vocabulary * held.width * BYTES[plan.weights]);
  }

  const perKey = (held) => 4 * held.heads * held.head_dim;

  function pairs(context, window) {
    const reach = Math.min(window, context);
    return reach * (reach + 1) / 2 + (context - reach) * reach;
  }

  // Operations that mix the tokens of one text, in one layer.
  function promptMixing(plan, held) {
    if (plan.mixer === "window") return perKey(held) * pairs(plan.context, plan.window);
    if (plan.mixer === "retention" || plan.mixer === "yoco") {
      return plan.context * held.heads * (4 * CHUNK * held.head_dim + 4 * held.head_dim ** 2);
    }
    return perKey(held) * pairs(plan.context, plan.context);
  }

  function promptBody(plan, held) {
    if (plan.mixer !== "yoco") return tokenFlops(plan) * plan.context + held.layers * promptMixing(plan, held);
    const first = half(held.layers);
    const all = 2 * (first * layerMatrices(held, "gated") + writer(held)) * plan.context;
    const last = 2 * layerMatrices(held, "cross") + perKey(held) * plan.context;
    return all + first * promptMixing(plan, held) + (held.layers - first) * last;
  }

  function promptWork(plan) {
    const held = part(plan);
    const found = kept(plan);
    const head = 2 * texts(plan) * held.vocabulary * held.width;
    const tokens = plan.batch / plan.data * plan.context / plan.sequence;
    return {
      flops: texts(plan) * promptBody(plan, held) / plan.sequence + head,
      moved: weightsRead(plan, tokens) + found.growing / plan.sequence + found.constant,
    };
  }

  function decodeMixing(plan, held) {
    const perState = perKey(held) * held.head_dim;
    const keys = (plan.context + 1) / plan.sequence;
    const first = half(held.layers);
    if (plan.mixer === "yoco") return first * perState + (held.layers - first) * perKey(held) * keys;
    if (plan.mixer === "retention") return held.layers * perState;
    if (plan.mixer === "window") return held.layers * perKey(held) * Math.min(plan.window, plan.context + 1);
    return held.layers * perKey(held) * keys * (plan.mixer === "sparse" ? plan.share : 1);
  }

  function decodeWork(plan) {
    const held = part(plan);
    const found = kept(plan);
    const reads = {yoco: held.layers - half(held.layers), sparse: plan.share}[plan.mixer] ?? 1;
    const flops = tokenFlops(plan) + 2 * held.vocabulary * held.width + decodeMixing(plan, held);
    const moved = weightsRead(plan, plan.batch / plan.data) + reads * found.growing / plan.sequence + found.constant;
    return {flops: texts(plan) * flops, moved};
  }

  // ---- bytes sent -------------------------------------------------------------------------------------------------

  const NONE = {sent: 0, calls: 0};

  function tensorSent(plan, tokens, last) {
    if (plan.tensor === 1) return NONE;
    const {layers, width} = plan.model;
    const element = BYTES[products(plan)];
    const reduced = (2 * half(layers) + 1) * tokens + 2 * (layers - half(layers)) * last;
    const logits = texts(plan) * part(plan).vocabulary * plan.tensor * element;
    const sent = allReduce(reduced * width * element, plan.tensor) + allGather(logits, plan.tensor);
    return {sent, calls: 2 * layers + 2};
  }

  function expertSent(plan, tokens) {
    if (plan.expert === 1) return NONE;
    const rows = tokens * plan.top_k * plan.model.width * BYTES[products(plan)];
    return {sent: 2 * plan.model.layers * allToAll(rows, plan.expert), calls: 2 * plan.model.layers};
  }

  function sequenceSentOnce(plan) {
    if (plan.sequence === 1) return NONE;
    const held = part(plan);
    const found = kept(plan);
    if (plan.mixer === "window") {
      const reach = Math.min(plan.window - 1, plan.context - plan.context / plan.sequence);
      return {sent: cacheBytes(plan, held, reach), calls: held.layers};
    }
    const yoco = plan.mixer === "yoco";
    const decays = yoco ? STATE * texts(plan) * half(held.layers) * held.heads : 0;
    const sent = (plan.sequence - 1) * (found.constant + decays) + allGather(found.growing, plan.sequence);
    return {sent, calls: yoco ? half(held.layers) + 1 : held.layers};
  }

  function sequenceSentEach(plan) {
    const held = part(plan);
    const layers = {window: 0, retention: 0, yoco: held.layers - half(held.layers)}[plan.mixer] ?? held.layers;
    if (plan.sequence === 1 || layers === 0) return NONE;
    const partial = STATE * texts(plan) * held.heads * (held.head_dim + 1);
    return {sent: layers * allGather(partial * plan.sequence, plan.sequence), calls: layers};
  }

  // ---- a plan -----------------------------------------------------------------------------------------------------

  // A number in a refusal, as Python shows it: whole numbers in full, others as %g does.
  function shown(value) {
    if (typeof value !== "number" || Number.isNaN(value)) return "not a number";
    if (!Number.isFinite(value)) return "infinite";
    if (Number.isInteger(value) && Math.abs(value) <= LARGEST) return String(value);
    const [digits, exponent] = value.toExponential(5).split("e").map(Number);
    if (exponent >= -4 && exponent < 6) return String(Number(value.toPrecision(6)));
    return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }

  function sizesRefusal(plan) {
    for (const [name, value] of [...WHOLE.map((each) => [each, plan[each]]), ...SIZES.map((each) => [each, plan.model[each]])]) {
      if (!Number.isInteger(value) || value < 1) return `${name} must be a whole number of at least 1; it is ${shown(value)}.`;
      if (value > LARGEST) return `${name} must be at most ${LARGEST}; it is ${shown(value)}.`;
    }
    if (!MIXERS.includes(plan.mixer)) return `mixer must be one of ${MIXERS.join(", ")}; it is ${plan.mixer}.`;
    for (const name of ["weights", "cache"]) {
      if (!Object.hasOwn(BYTES, plan[name])) return `${name} must be one of ${Object.keys(BYTES).join(", ")}; it is ${plan[name]}.`;
    }
    if (!(plan.share > 0 && plan.share <= 1)) return `share must lie above 0 and be at most 1; it is ${shown(plan.share)}.`;
    if (!Number.isFinite(plan.latency) || plan.latency < 0) {
      return `latency must be a finite number of at least 0; it is ${shown(plan.latency)}.`;
    }
    const {bandwidth, memory, link, flops} = plan.device;
    const peaks = {bandwidth, memory, link, [`${products(plan)} flops`]: flops[products(plan)]};
    for (const [name, value] of Object.entries(peaks)) {
      if (!Number.isFinite(value) || value <= 0) return `${name} must be a finite number above 0; it is ${shown(value)}.`;
    }
    return null;
  }

  function splitRefusal(plan) {
    const {model, tensor} = plan;
    const {heads, key_value_heads: keys} = model;
    const replicas = plan.data * plan.expert;
    const must = "the tensor degree must divide";
    const rules = [
      [heads % keys, `key_value_heads must divide heads (${heads}); it is ${keys}.`],
      [plan.experts < plan.top_k, `top_k must be at most experts (${plan.experts}); it is ${plan.top_k}.`],
      [model.feed_forward % plan.top_k, `top_k must divide the feed-forward (${model.feed_forward}); it is ${plan.top_k}.`],
      [plan.experts > 1 && plan.mixer === "yoco",
        "yoco is priced without experts: set experts to 1, or take another mixer."],
      [plan.mixer === "yoco" && model.layers < 2, `yoco needs at least 2 layers; it has ${model.layers}.`],
      [plan.experts % plan.expert, `the expert degree must divide experts (${plan.experts}); it is ${plan.expert}.`],
      [heads % tensor, `${must} heads (${heads}); it is ${tensor}.`],
      [keys % tensor && tensor % keys, `${must} key_value_heads (${keys}) or be a multiple; it is ${tensor}.`],
      [inner(plan) % tensor, `${must} the width of a feed-forward (${inner(plan)}); it is ${tensor}.`],
      [plan.context % plan.sequence, `the sequence degree must divide context (${plan.context}); it is ${plan.sequence}.`],
      [plan.batch % replicas,
        `data times expert degree (${replicas}) must divide batch (${plan.batch}): each device has whole texts.`],
    ];
    return rules.find(([broken]) => broken)?.[1] ?? null;
  }

  const refusal = (plan) => sizesRefusal(plan) ?? splitRefusal(plan);

  function step(plan, {flops, moved}, ...collectives) {
    const sum = (name) => collectives.reduce((total, each) => total + each[name], 0);
    const [sent, calls] = [sum("sent"), sum("calls")];
    const compute = flops / plan.device.flops[products(plan)];
    const memory = moved / plan.device.bandwidth;
    const communication = sent / plan.device.link + calls * plan.latency;
    return {flops, moved, sent, calls, compute, memory, communication, seconds: Math.max(compute, memory) + communication};
  }

  // All of a plan, as `effattn_core.plans.report` gives it. Throws what cannot be split.
  function report(plan) {
    const reason = refusal(plan);
    if (reason) throw new RangeError(reason);
    const found = kept(plan);
    const memory = {weights: Math.trunc(parameters(plan) * BYTES[plan.weights]), growing: found.growing / plan.sequence,
      constant: found.constant};
    memory.total = memory.weights + memory.growing + memory.constant;
    const tokens = texts(plan) * plan.context / plan.sequence;
    const last = plan.mixer === "yoco" ? texts(plan) : tokens;
    const first = step(plan, promptWork(plan), tensorSent(plan, tokens, last), expertSent(plan, tokens), sequenceSentOnce(plan));
    const each = step(plan, decodeWork(plan), tensorSent(plan, texts(plan), texts(plan)), expertSent(plan, texts(plan)),
      sequenceSentEach(plan));
    return {devices: plan.data * plan.tensor * plan.sequence * plan.expert, memory, fits: memory.total <= plan.device.memory,
      prompt: first, decode: each, tokens_per_second: plan.batch / each.seconds};
  }

  window.planner = {report, refusal};
})();
