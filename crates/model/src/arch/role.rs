//! What a tensor is for, whatever a file calls it.

use std::fmt;

/// The part a tensor plays in a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `[vocab_size, hidden_size]`: one row a token.
    TokenEmbedding,
    /// `[hidden_size]`: RMSNorm in front of attention.
    InputNorm,
    /// Query, key and value in one matrix, in this order: `[(num_attention_heads + 2 · num_key_value_heads) · head_dim, hidden_size]`.
    QueryKeyValue,
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
    /// RMSNorm of the queries before they are rotated: `[head_dim]`, or of all heads together `[num_attention_heads · head_dim]`.
    QueryNorm,
    /// RMSNorm of the keys before they are rotated: `[head_dim]`, or of all heads together `[num_key_value_heads · head_dim]`.
    KeyNorm,
    /// `[hidden_size, num_attention_heads · head_dim]`.
    Output,
    /// `[hidden_size]`.
    OutputBias,
    /// `[hidden_size]`: RMSNorm of attention's output, before it is added to the residual stream.
    AttentionOutputNorm,
    /// `[hidden_size]`: RMSNorm in front of the MLP.
    PostNorm,
    /// Gate and up in one matrix, in this order: `[2 · intermediate_size, hidden_size]`.
    GateUp,
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
    /// `[hidden_size]`: RMSNorm of the MLP's output, before it is added to the residual stream.
    MlpOutputNorm,
    /// `[hidden_size]`: RMSNorm after the last block.
    FinalNorm,
    /// `[vocab_size, hidden_size]`: the output head, where it is not the embedding.
    Head,
}

use Role::*;

impl Role {
    /// Every role, in the order tensors have in a file.
    pub const ALL: [Role; 25] = [
        TokenEmbedding,
        InputNorm,
        QueryKeyValue,
        Query,
        QueryBias,
        Key,
        KeyBias,
        Value,
        ValueBias,
        QueryNorm,
        KeyNorm,
        Output,
        OutputBias,
        AttentionOutputNorm,
        PostNorm,
        GateUp,
        Gate,
        GateBias,
        Up,
        UpBias,
        Down,
        DownBias,
        MlpOutputNorm,
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

    /// The weights of a block's linear layers, as any family stores them; a model has those that
    /// [`ModelConfig::has`](crate::ModelConfig::has) says.
    pub const LINEAR: [Role; 9] = [QueryKeyValue, Query, Key, Value, Output, GateUp, Gate, Up, Down];

    /// The layers that a stored matrix holds the rows of, one after the other: itself, if it is of one layer.
    pub const fn parts(self) -> &'static [Role] {
        match self {
            QueryKeyValue => &[Query, Key, Value],
            GateUp => &[Gate, Up],
            Query => &[Query],
            Key => &[Key],
            Value => &[Value],
            Output => &[Output],
            Gate => &[Gate],
            Up => &[Up],
            Down => &[Down],
            _ => &[],
        }
    }

    /// Whether it is the weight of an RMSNorm.
    pub const fn is_norm(self) -> bool {
        matches!(
            self,
            InputNorm | QueryNorm | KeyNorm | AttentionOutputNorm | PostNorm | MlpOutputNorm | FinalNorm
        )
    }

    /// The norm between a layer that adds to the residual stream and the stream, in families that have one.
    pub const fn output_norm(self) -> Option<Role> {
        match self {
            Output => Some(AttentionOutputNorm),
            Down => Some(MlpOutputNorm),
            _ => None,
        }
    }
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
