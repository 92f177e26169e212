"""Train: python main.py DATASET_NAME NET_NAME XP_PATH DATA_PATH [OPTIONS]."""

from salad.cli import train

if __name__ == "__main__":
    train(prog_name="main.py")
