"""Train a Hugging Face model that computes its own loss, on texts of which 35 % have a wrong label.

The model is a tiny BERT made from a configuration, and the texts are word lists, so nothing is downloaded. The loader
comes from a `LightningDataModule`, so `callbacks=[ELR()]` is the whole change.

    pip install -e ".[text]" && python examples/hugging_face.py
"""

import lightning as L
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from noisylabels_pl import ELR
from noisylabels_pl.functional import corrupt_labels, transition_matrix

NUM_CLASSES, NUM_WORDS, LENGTH = 4, 200, 12


def make_texts(num_texts, seed):
    """Return texts as word numbers, and topics; a topic prefers every fourth word."""
    generator = torch.Generator().manual_seed(seed)
    topics = torch.randint(NUM_CLASSES, (num_texts,), generator=generator)
    words = torch.randint(NUM_WORDS, (num_texts, LENGTH), generator=generator)
    is_topical = torch.rand(num_texts, LENGTH, generator=generator) < 0.6
    topical_words = words - words % NUM_CLASSES + topics.unsqueeze(1)
    return torch.where(is_topical, topical_words, words), topics


class Texts(L.LightningDataModule):
    def setup(self, stage):
        texts, topics = make_texts(600, seed=0)
        T = transition_matrix("sym", NUM_CLASSES, rate=0.35)
        labels = corrupt_labels(topics, T, generator=torch.Generator().manual_seed(0))
        self.samples = [{"input_ids": text, "labels": label} for text, label in zip(texts, labels, strict=True)]

    def train_dataloader(self):
        return DataLoader(self.samples, batch_size=32, shuffle=True)


class TextClassifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        self.model = BertForSequenceClassification(BertConfig(vocab_size=NUM_WORDS, num_labels=NUM_CLASSES, **sizes))

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.003)


def train(callbacks):
    torch.manual_seed(0)
    module = TextClassifier()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=15, accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **options)
    trainer.fit(module, Texts())
    texts, topics = make_texts(1000, seed=1)
    module.eval()
    with torch.no_grad():
        return (module.model(texts).logits.argmax(1) == topics).float().mean().item()


plain = train([])
robust = train([ELR()])
print(f"test accuracy: {plain:.1%} without the callback, {robust:.1%} with ELR")
