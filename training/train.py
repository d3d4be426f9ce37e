"""Train a dual-plane pose model; see `veriserum_hf.training.train`.

accelerate launch training/train.py --config training/configs/demo.yaml --dataset OUT --output_dir RUN
torchrun --nproc_per_node 2 training/train.py --config training/configs/demo.yaml --dataset OUT --output_dir RUN
"""

from veriserum_hf.training.train import main

if __name__ == "__main__":
    main()
