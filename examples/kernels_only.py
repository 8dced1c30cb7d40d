"""Use the functions alone, in a plain torch loop: find the wrong labels, and estimate how labels were flipped.

`noisylabels_pl.functional` needs torch only: no Lightning, no loaders, no callbacks.

    python examples/kernels_only.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from noisylabels_pl.functional import (
    centrality,
    corrupt_labels,
    estimate_transition_matrix,
    label_precision_recall,
    logit_gradient,
    transition_matrix,
)

images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
T = transition_matrix("sym", 10, rate=0.4)  # T[i, j] = P(observed = j | true = i)
noisy = corrupt_labels(y, T, generator=torch.Generator().manual_seed(0))

# A few epochs: long enough to learn the digits, too short to memorize wrong labels.
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
for _ in range(10):
    for batch in torch.randperm(len(x)).split(32):
        loss = F.cross_entropy(network(x[batch]), noisy[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with torch.no_grad():
    logits = network(x)

# Samples with right labels have similar gradients: keep the central half of each predicted class.
gradients = logit_gradient(logits, noisy)
kept = []
for members in (torch.where(logits.argmax(1) == label)[0] for label in range(10)):
    kept.append(members[centrality(gradients[members], k=len(members) // 2).indices])
precision, recall = label_precision_recall(torch.cat(kept), noisy == y)
share_right = (noisy == y).float().mean()

estimated = estimate_transition_matrix(logits.softmax(1))
print(
    f"right labels: {share_right:.1%} of all samples, {precision:.1%} of the selected ones (of all right: {recall:.1%})"
)
print(f"P(observed = true): {estimated.diagonal().mean():.2f} estimated, {T.diagonal().mean():.2f} true")
