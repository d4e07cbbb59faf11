package modulet.modules.broken;

import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.annotation.Bean;

/** A module that never starts. */
@SpringBootApplication(proxyBeanMethods = false)
public class BrokenApplication {
    public static void main(String[] args) {
        new SpringApplicationBuilder(BrokenApplication.class).bannerMode(Banner.Mode.OFF).run(args);
    }

    @Bean
    Object broken() {
        throw new IllegalStateException("broken on purpose");
    }
}
