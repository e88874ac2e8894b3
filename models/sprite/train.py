"""Train a member of the sprite family: `python -m models.sprite.train NAME`."""
import argparse

import torch


def main():
    from models.sprite import autoencoder, judge, clip
    from models.sprite.loop import PARTS
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    kw = {"steps": a.steps} if a.steps else {}
    def towers(**kw):
        clip.train_towers(clip.train_tokenizer(PARTS / "bpe"), **kw)
    {"judge": judge.train_judge, "autoencoder": autoencoder.train_autoencoder, "towers": towers}[a.what](**kw)

main()
