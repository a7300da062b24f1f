// Fills in templates as Ollama does: reads cases from standard input, adds what Go's text/template makes of each
// conversation. Source: Ollama's template/template.go (what a template is given, and how messages are joined).
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type Conversation struct {
	Messages     []Message `json:"messages"`
	Transformers string    `json:"transformers"`
	Go           string    `json:"go"`
}

type Case struct {
	Name          string          `json:"name"`
	Jinja         string          `json:"jinja"`
	AddsBos       bool            `json:"adds_bos"`
	Generation    json.RawMessage `json:"generation"`
	Modelfile     string          `json:"modelfile"`
	Template      *string         `json:"template"`
	Conversations []Conversation  `json:"conversations"`
}

func fill(text string, messages []Message) string {
	var system []string
	var joined []*Message
	for _, m := range messages {
		message := m
		if m.Role == "system" {
			system = append(system, m.Content)
		}
		if n := len(joined); n > 0 && joined[n-1].Role == m.Role {
			joined[n-1].Content += "\n\n" + m.Content
		} else {
			joined = append(joined, &message)
		}
	}
	var out strings.Builder
	t := template.Must(template.New("").Option("missingkey=zero").Parse(text))
	values := map[string]any{"System": strings.Join(system, "\n\n"), "Messages": joined, "Response": ""}
	if err := t.Execute(&out, values); err != nil {
		panic(err)
	}
	return out.String()
}

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	for i := range cases {
		for j := range cases[i].Conversations {
			c := &cases[i].Conversations[j]
			if cases[i].Template != nil {
				c.Go = fill(*cases[i].Template, c.Messages)
			}
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(cases); err != nil {
		panic(err)
	}
}
