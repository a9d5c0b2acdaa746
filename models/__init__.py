"""The compiler: a checkpoint that authors publish → the bundle that `service` runs.

    source ──sources──▶ checkpoint folder ──checkpoint──▶ description ──native | onnx_route──▶ graph
           ──compile──▶ bundle folder (model.onnx, tokenizer.json, golden.json, bundle.json) ◀──verify

`compile.find_cached` is what `embedserve serve` calls first, so nothing heavy (onnx, safetensors,
huggingface_hub, onnxruntime) is imported before something is really fetched, built or verified.
"""
