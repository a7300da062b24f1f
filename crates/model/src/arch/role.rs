//! What a tensor is for, whatever a file calls it.

use std::fmt;

/// The part a tensor plays in a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `[vocab_size, hidden_size]`: one row a token.
    TokenEmbedding,
    /// `[hidden_size]`: RMSNorm in front of attention.
    InputNorm,
    /// `[num_attention_heads · head_dim, hidden_size]`.
    Query,
    /// `[num_attention_heads · head_dim]`.
    QueryBias,
    /// `[num_key_value_heads · head_dim, hidden_size]`.
    Key,
    /// `[num_key_value_heads · head_dim]`.
    KeyBias,
    /// `[num_key_value_heads · head_dim, hidden_size]`.
    Value,
    /// `[num_key_value_heads · head_dim]`.
    ValueBias,
    /// `[hidden_size, num_attention_heads · head_dim]`.
    Output,
    /// `[hidden_size]`.
    OutputBias,
    /// `[hidden_size]`: RMSNorm in front of the MLP.
    PostNorm,
    /// `[intermediate_size, hidden_size]`: goes through the activation.
    Gate,
    /// `[intermediate_size]`.
    GateBias,
    /// `[intermediate_size, hidden_size]`: multiplied with the activated gate.
    Up,
    /// `[intermediate_size]`.
    UpBias,
    /// `[hidden_size, intermediate_size]`.
    Down,
    /// `[hidden_size]`.
    DownBias,
    /// `[hidden_size]`: RMSNorm after the last block.
    FinalNorm,
    /// `[vocab_size, hidden_size]`: the output head, where it is not the embedding.
    Head,
}

use Role::*;

impl Role {
    /// Every role, in the order tensors have in a file.
    pub const ALL: [Role; 19] = [
        TokenEmbedding,
        InputNorm,
        Query,
        QueryBias,
        Key,
        KeyBias,
        Value,
        ValueBias,
        Output,
        OutputBias,
        PostNorm,
        Gate,
        GateBias,
        Up,
        UpBias,
        Down,
        DownBias,
        FinalNorm,
        Head,
    ];

    /// Whether every block has a tensor of its own for this role.
    pub const fn is_per_layer(self) -> bool {
        !matches!(self, TokenEmbedding | FinalNorm | Head)
    }

    /// The bias that is added to this linear layer's output, if such layers can have one.
    pub const fn bias(self) -> Option<Role> {
        match self {
            Query => Some(QueryBias),
            Key => Some(KeyBias),
            Value => Some(ValueBias),
            Output => Some(OutputBias),
            Gate => Some(GateBias),
            Up => Some(UpBias),
            Down => Some(DownBias),
            _ => None,
        }
    }

    /// Whether it is a bias.
    pub const fn is_bias(self) -> bool {
        matches!(self, QueryBias | KeyBias | ValueBias | OutputBias | GateBias | UpBias | DownBias)
    }

    /// The weights of a block's linear layers.
    pub const LINEAR: [Role; 7] = [Query, Key, Value, Output, Gate, Up, Down];
}

/// One tensor of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId {
    /// Its part.
    pub role: Role,
    /// The block it belongs to; `None` for those outside the blocks.
    pub layer: Option<usize>,
}

impl TensorId {
    /// A tensor of block `layer`.
    pub const fn block(layer: usize, role: Role) -> Self {
        Self { role, layer: Some(layer) }
    }

    /// A tensor outside the blocks.
    pub const fn global(role: Role) -> Self {
        Self { role, layer: None }
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "{:?} of block {layer}", self.role),
            None => write!(f, "{:?}", self.role),
        }
    }
}
