"""Evaluate a trained model on a split of a data set; see `veriserum_hf.training.evaluate`.

python training/evaluate.py --model RUN --dataset OUT --split test --output_dir report
accelerate launch training/evaluate.py --model RUN --dataset OUT --json > evaluation.json
"""

from veriserum_hf.training.evaluate import main

if __name__ == "__main__":
    main()
